// Package reference judges connections by network policies in the plainest way: it goes through all of them for every question. Tests hold the
// planner and the kernel against it.
package reference

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/labels"

	"hardway/netproxy/state"
)

// World is all there is.
type World struct {
	Policies   map[state.Name]*state.Policy
	Pods       map[state.Name]*state.Pod
	Namespaces map[string]labels.Set
}

// Connection is from one address to another.
type Connection struct {
	Client, Server netip.Addr
	Protocol       state.Protocol
	Port           uint16
}

// String is "client -> server 6/80".
func (c Connection) String() string {
	return fmt.Sprintf("%s -> %s %s/%d", c.Client, c.Server, c.Protocol, c.Port)
}

// New is an empty world.
func New() World {
	return World{map[state.Name]*state.Policy{}, map[state.Name]*state.Pod{}, map[string]labels.Set{}}
}

// Changes is how everything in the world comes into being.
func (w World) Changes() state.PolicyChanges {
	out := state.PolicyChanges{Policies: w.Policies, Pods: w.Pods, Namespaces: map[string]*labels.Set{}}
	for name, set := range w.Namespaces {
		out.Namespaces[name] = &set
	}
	return out
}

// Allows says what node has to say about a connection: it judges for its own pods.
func (w World) Allows(node string, c Connection) bool {
	return w.allows(node, c, true) && w.allows(node, c, false)
}

func (w World) allows(node string, c Connection, ingress bool) bool {
	self, peer := c.Server, c.Client
	if !ingress {
		self, peer = peer, self
	}
	name, pod := w.podAt(self)
	if pod == nil || pod.Node != node {
		return true
	}
	isolated := false
	for policyName, p := range w.Policies {
		rules := rulesOf(p, ingress)
		if policyName.Namespace != name.Namespace || rules == nil || !p.Pods.Matches(pod.Labels) {
			continue
		}
		isolated = true
		for _, r := range *rules {
			byPod, byBlock := w.peersMatch(policyName.Namespace, r.Peers, peer)
			// What a block's addresses call their ports nobody knows.
			if byPod && w.portsMatch(r.Ports, c, true) || byBlock && w.portsMatch(r.Ports, c, ingress) {
				return true
			}
		}
	}
	return !isolated
}

func (w World) podAt(a netip.Addr) (state.Name, *state.Pod) {
	for name, p := range w.Pods {
		for _, own := range p.Addrs {
			if own == a {
				return name, p
			}
		}
	}
	return state.Name{}, nil
}

func (w World) peersMatch(namespace string, peers []state.PolicyPeer, a netip.Addr) (byPod, byBlock bool) {
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
		set, known := w.Namespaces[name.Namespace]
		if p.Namespaces == nil && name.Namespace == namespace || p.Namespaces != nil && known && p.Namespaces.Matches(set) {
			byPod = true
		}
	}
	return byPod || len(peers) == 0, byBlock
}

func (w World) portsMatch(ports []state.PolicyPort, c Connection, named bool) bool {
	for _, p := range ports {
		if p.Protocol != c.Protocol {
			continue
		}
		if p.Name == "" && p.From <= c.Port && c.Port <= p.To {
			return true
		}
		if _, pod := w.podAt(c.Server); named && p.Name != "" && pod != nil {
			for _, own := range pod.Ports {
				if own.Name == p.Name && own.Protocol == p.Protocol && own.Port == c.Port {
					return true
				}
			}
		}
	}
	return len(ports) == 0
}

func rulesOf(p *state.Policy, ingress bool) *[]state.PolicyRule {
	if ingress {
		return p.Ingress
	}
	return p.Egress
}
