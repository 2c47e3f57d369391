package policy

import (
	"fmt"
	"slices"
	"strings"

	"hardway/netproxy/plan"
	"hardway/netproxy/state"
)

// group stands for the pods of this node that one set of policies isolates in one direction.
type group struct {
	direction Direction
	namespace string
	policies  []string
	named     map[portName]uint16 // Ingress: what the named ports are, which is the same in all pods of the group
	rules     []rule
	keys      map[Key]bool // its elements
}

// portName is a named port of a protocol.
type portName struct {
	protocol state.Protocol
	name     string
}

// rule allows some ports to some peers.
type rule struct {
	everybody bool
	selectors []*interned[*selector]
	blocks    []state.PolicyPeer
	ports     []PortRange
	names     []portName // Egress: ports that each peer has its own number for
}

// assignGroups finds the groups of pods of this node.
func (s *step) assignGroups() {
	for p := range s.regroup {
		for d := range p.groups {
			s.assignGroup(p, Direction(d))
		}
	}
}

func (s *step) assignGroup(p *pod, d Direction) {
	var policies []string
	named := map[portName]uint16{}
	if p.facts.Node == s.node {
		for _, name := range sortedKeys(s.policies[p.name.Namespace]) {
			policy := s.policies[p.name.Namespace][name]
			rules := rulesOf(policy, d)
			if rules == nil || !policy.Pods.Matches(p.facts.Labels) {
				continue
			}
			policies = append(policies, name)
			if d == Ingress {
				resolve(p.facts, *rules, named)
			}
		}
	}
	old := p.groups[d]
	if len(policies) == 0 {
		s.leaveGroup(p, d)
	} else {
		next, fresh := s.groups.hold(groupKey(d, p.name.Namespace, policies, named))
		if fresh {
			next.value = &group{direction: d, namespace: p.name.Namespace, policies: policies, named: named, keys: map[Key]bool{}}
			s.recompile[next] = true
		}
		s.leaveGroup(p, d)
		p.groups[d] = next
	}
	if p.groups[d] != old {
		s.touchAddresses(p)
	}
}

func (s *step) touchAddresses(p *pod) {
	for _, a := range p.facts.Addrs {
		s.addresses[a] = true
	}
}

func groupKey(d Direction, namespace string, policies []string, named map[portName]uint16) string {
	var ports []string
	for n, number := range named {
		ports = append(ports, fmt.Sprintf("%d/%s=%d", n.protocol, n.name, number))
	}
	slices.Sort(ports)
	return d.String() + "|" + namespace + "|" + strings.Join(policies, ",") + "|" + strings.Join(ports, ",")
}

func rulesOf(p *state.Policy, d Direction) *[]state.PolicyRule {
	if d == Ingress {
		return p.Ingress
	}
	return p.Egress
}

// resolve notes the numbers that named ports of rules have in a pod.
func resolve(p *state.Pod, rules []state.PolicyRule, named map[portName]uint16) {
	for _, r := range rules {
		for _, port := range r.Ports {
			n := portName{port.Protocol, port.Name}
			if number, ok := portOf(p, n); port.Name != "" && ok {
				named[n] = number
			}
		}
	}
}

func portOf(p *state.Pod, n portName) (uint16, bool) {
	for _, port := range p.Ports {
		if port.Name == n.name && port.Protocol == n.protocol {
			return port.Port, true
		}
	}
	return 0, false
}

func (s *step) leaveGroup(p *pod, d Direction) {
	g := p.groups[d]
	if g == nil {
		return
	}
	p.groups[d] = nil
	if !s.groups.release(g) {
		return
	}
	for k := range g.value.keys {
		s.permit(k, nil)
	}
	s.dropRules(g.value)
	delete(s.recompile, g)
}

// compileGroups makes the rules of groups that are new or whose policies changed. New rules hold their selectors before old ones let go, so
// that what both use does not go away in between.
func (s *step) compileGroups() {
	for g := range s.recompile {
		old := *g.value
		g.value.rules = nil
		for _, name := range g.value.policies {
			policy := s.policies[g.value.namespace][name]
			for _, r := range *rulesOf(policy, g.value.direction) {
				s.compile(g.value, r)
			}
		}
		s.dropRules(&old)
	}
}

func (s *step) dropRules(g *group) {
	for _, r := range g.rules {
		for _, held := range r.selectors {
			s.dropSelector(held)
		}
		for _, n := range r.names {
			s.useName(n, -1)
		}
	}
}

// compile adds one rule of a policy to a group.
func (s *step) compile(g *group, r state.PolicyRule) {
	out := rule{everybody: len(r.Peers) == 0}
	if len(r.Ports) == 0 {
		out.ports = []PortRange{allPorts}
	}
	for _, p := range r.Ports {
		n := portName{p.Protocol, p.Name}
		number, known := g.named[n]
		switch {
		case p.Name == "":
			out.ports = append(out.ports, PortRange{p.Protocol, p.Protocol, p.From, p.To})
		case g.direction == Egress:
			out.names = append(out.names, n)
		case known:
			out.ports = append(out.ports, PortRange{p.Protocol, p.Protocol, number, number})
		}
	}
	for _, peer := range r.Peers {
		if peer.Pods == nil {
			out.blocks = append(out.blocks, peer)
		} else {
			out.selectors = append(out.selectors, s.holdSelector(g.namespace, peer))
		}
	}
	if out.everybody && len(out.names) > 0 {
		// A named port is one of a pod, whoever it may be.
		s.useNames(out.names)
		g.rules = append(g.rules, rule{names: out.names, selectors: []*interned[*selector]{s.holdSelector("", everyPod())}})
		out.names = nil
	}
	s.useNames(out.names)
	g.rules = append(g.rules, out)
}

func (s *step) useNames(names []portName) {
	for _, n := range names {
		s.useName(n, +1)
	}
}

// useName counts the users of a named port. Where the first comes or the last goes, pods that have such a port change their class.
func (s *step) useName(n portName, count int) {
	before := s.names[n]
	if s.names[n] += count; s.names[n] == 0 {
		delete(s.names, n)
	}
	if (before == 0) == (before+count == 0) {
		return
	}
	for _, pods := range s.pods {
		for _, p := range pods {
			if _, has := portOf(p.facts, n); has {
				s.reclass[p] = true
			}
		}
	}
}

// allow writes what groups allow, where a group or a class is not what it was.
func (s *step) allow() {
	for g := range s.recompile {
		unused := g.value.keys
		g.value.keys = map[Key]bool{}
		s.allowClass(g, nil)
		for _, c := range s.classes.byKey {
			s.allowClass(g, c)
		}
		s.allowBlocks(g)
		for k := range unused {
			if !g.value.keys[k] {
				s.permit(k, nil)
			}
		}
	}
	for c := range s.newClasses {
		for _, g := range s.groups.byKey {
			s.allowClass(g, c)
		}
	}
}

// allowClass writes what a group allows a class; nil is everybody.
func (s *step) allowClass(g *interned[*group], c *interned[*class]) {
	var ranges []PortRange
	for _, r := range g.value.rules {
		switch {
		case c == nil && r.everybody:
			ranges = append(ranges, r.ports...)
		case c != nil && c.value.matches(r.selectors):
			ranges = append(ranges, r.ports...)
			for _, n := range r.names {
				if number, ok := c.value.named[n]; ok {
					ranges = append(ranges, PortRange{n.protocol, n.protocol, number, number})
				}
			}
		}
	}
	if len(ranges) == 0 {
		return
	}
	key := Key{Map: AllowedPods, Direction: g.value.direction, Group: g.id, ID: Everybody}
	if c != nil {
		key.ID = c.id
	}
	for _, key.Family = range families {
		g.value.keys[key] = true
		s.permit(key, union(ranges))
	}
}

var families = [...]plan.Family{plan.IPv4, plan.IPv6}

func (s *step) allowBlocks(g *interned[*group]) {
	var blocks []block
	for _, r := range g.value.rules {
		for _, b := range r.blocks {
			blocks = append(blocks, block{b, r.ports})
		}
	}
	for _, f := range families {
		for _, run := range spans(blocks, f) {
			key := Key{Map: AllowedBlocks, Family: f, Direction: g.value.direction, Group: g.id, Addr: run.first, Last: run.last}
			g.value.keys[key] = true
			s.permit(key, run.ports)
		}
	}
}
