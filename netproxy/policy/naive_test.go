package policy

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/labels"

	"hardway/netproxy/state"
)

// world is the naive evaluator: it answers for a connection by going through all policies, without any elements.
type world struct {
	policies   map[state.Name]*state.Policy
	pods       map[state.Name]*state.Pod
	namespaces map[string]labels.Set
}

// connection is from one address to another.
type connection struct {
	client, server netip.Addr
	protocol       state.Protocol
	port           uint16
}

// allows says what node has to say about a connection: it judges for its own pods.
func (w world) allows(node string, c connection) bool {
	return w.allowsDirection(node, c, Ingress) && w.allowsDirection(node, c, Egress)
}

func (w world) allowsDirection(node string, c connection, d Direction) bool {
	self, peer := c.server, c.client
	if d == Egress {
		self, peer = peer, self
	}
	name, pod := w.podAt(self)
	if pod == nil || pod.Node != node {
		return true
	}
	isolated := false
	for policyName, p := range w.policies {
		rules := rulesOf(p, d)
		if policyName.Namespace != name.Namespace || rules == nil || !p.Pods.Matches(pod.Labels) {
			continue
		}
		isolated = true
		for _, r := range *rules {
			byPod, byBlock := w.peersMatch(policyName.Namespace, r.Peers, peer)
			// What a block's addresses call their ports nobody knows.
			if byPod && w.portsMatch(r.Ports, c, true) || byBlock && w.portsMatch(r.Ports, c, d == Ingress) {
				return true
			}
		}
	}
	return !isolated
}

func (w world) podAt(a netip.Addr) (state.Name, *state.Pod) {
	for name, p := range w.pods {
		for _, own := range p.Addrs {
			if own == a {
				return name, p
			}
		}
	}
	return state.Name{}, nil
}

func (w world) peersMatch(namespace string, peers []state.PolicyPeer, a netip.Addr) (byPod, byBlock bool) {
	for _, p := range peers {
		if p.Pods == nil {
			in := p.Block.Contains(a)
			for _, e := range p.Except {
				in = in && !e.Contains(a)
			}
			byBlock = byBlock || in
			continue
		}
		name, pod := w.podAt(a)
		if pod == nil || !p.Pods.Matches(pod.Labels) {
			continue
		}
		set, known := w.namespaces[name.Namespace]
		if p.Namespaces == nil && name.Namespace == namespace || p.Namespaces != nil && known && p.Namespaces.Matches(set) {
			byPod = true
		}
	}
	return byPod || len(peers) == 0, byBlock
}

func (w world) portsMatch(ports []state.PolicyPort, c connection, named bool) bool {
	for _, p := range ports {
		if p.Protocol != c.protocol {
			continue
		}
		if p.Name == "" && p.From <= c.port && c.port <= p.To {
			return true
		}
		if _, pod := w.podAt(c.server); named && p.Name != "" && pod != nil {
			number, ok := portOf(pod, portName{p.Protocol, p.Name})
			if ok && number == c.port {
				return true
			}
		}
	}
	return len(ports) == 0
}
