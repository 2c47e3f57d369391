package plan

import (
	"net/netip"

	"hardway/netproxy/state"
)

// Compiled is what one service needs in the kernel and around it.
type Compiled struct {
	Elements []Element
	Flows    []Flow
	// Health is set for a service with a health check node port.
	Health *Health
	// Announced are the service's load balancer addresses.
	Announced []Announced
}

// Announced is an address that some node has to answer for.
type Announced struct {
	Addr netip.Addr
	Here bool // this node has what it takes: with externalTrafficPolicy Local, an endpoint
}

// Flow is a UDP address of a service with the endpoints that may answer for it. Flows to others are stale: UDP has no end, so a client that
// keeps its port would be led to a dead endpoint for ever.
type Flow struct {
	Family Family
	Addr   netip.Addr // the zero Addr: any address of this node (a node port)
	Port   uint16
	Good   []netip.AddrPort // ordered
}

// Health is what the health check node port of a service reports.
type Health struct {
	Service state.Name
	Port    uint16
	Local   int // endpoints on this node
}

// Compile works out the elements of one service on one node. Facts without a service give the zero Compiled. The elements of one service have
// distinct keys.
func Compile(node state.Node, facts state.Facts) Compiled {
	if facts.Service == nil {
		return Compiled{}
	}
	c := compiler{node: node, facts: facts, service: facts.Service, seen: map[Key]bool{}}
	for _, address := range facts.Service.ClusterIPs {
		c.add(Key{Map: ClusterIPs, Family: FamilyOf(address), Addr: address}, Value{})
		for _, port := range facts.Service.Ports {
			c.port(address, port)
		}
	}
	if c.service.HealthPort != 0 {
		c.out.Health = &Health{Service: c.service.Name, Port: c.service.HealthPort, Local: len(c.locals)}
	}
	for _, a := range facts.Service.LoadBalancerIPs {
		c.out.Announced = append(c.out.Announced, Announced{a, !c.service.ExternalLocal || len(c.locals) > 0})
	}
	return c.out
}

type compiler struct {
	node    state.Node
	facts   state.Facts
	service *state.Service
	seen    map[Key]bool
	locals  map[netip.Addr]bool // local endpoints over all ports
	out     Compiled
}

// add keeps the first of two elements with one key.
func (c *compiler) add(k Key, v Value) {
	if !c.seen[k] {
		c.seen[k] = true
		c.out.Elements = append(c.out.Elements, Element{k, v})
	}
}

// port adds all elements of one port of the service in the family of the cluster address.
func (c *compiler) port(address netip.Addr, port state.Port) {
	family := FamilyOf(address)
	group := Group{address, port.Protocol, port.Port}
	found := choose(c.node, c.facts, port, family)

	usesCluster, usesLocal := c.frontends(group, port, found)
	if usesCluster {
		c.endpoints(group, 0, Members, found.cluster)
	}
	if usesLocal {
		c.endpoints(group, LocalBase, LocalMembers, found.local)
	}
	for _, a := range found.own {
		c.add(Key{Map: Hairpins, Family: family, Addr: a}, Value{})
	}
	if c.locals == nil {
		c.locals = map[netip.Addr]bool{}
	}
	for _, to := range found.local {
		c.locals[to.Addr()] = true
	}
}

// frontends adds the addresses under which the port is reached and tells which lists of endpoints they lead to.
func (c *compiler) frontends(group Group, port state.Port, found lists) (usesCluster, usesLocal bool) {
	s, family := c.service, FamilyOf(group.Addr)
	everybody := Shape{N: uint32(len(found.cluster)), Affinity: s.Affinity}
	onlyHere := Shape{N: uint32(len(found.local)), Affinity: s.Affinity, Local: true, Drop: found.some}
	vip := func(m Map, a netip.Addr, shape Shape) {
		c.add(Key{Map: m, Family: family, Addr: a, Proto: port.Protocol, Port: port.Port}, Value{Shape: tidy(shape), Group: group})
	}

	internal := everybody
	if s.InternalLocal {
		internal = onlyHere
	}
	vip(VIPs, group.Addr, internal)
	c.flow(port.Protocol, Flow{family, group.Addr, port.Port, found.serving})

	outside, masqueraded := onlyHere, everybody
	masqueraded.Masquerade = true
	if !s.ExternalLocal {
		outside = masqueraded
	}
	external := false
	for _, a := range s.ExternalIPs {
		if FamilyOf(a) != family {
			continue
		}
		external = true
		guarded := outside
		guarded.Guarded = c.guard(a, port)
		vip(VIPs, a, guarded)
		if s.ExternalLocal && len(found.cluster) > 0 {
			inside := everybody
			inside.Guarded = guarded.Guarded
			vip(InsideVIPs, a, inside)
		}
		c.flow(port.Protocol, Flow{family, a, port.Port, found.serving})
	}
	if port.NodePort != 0 {
		external = true
		key := Key{Map: NodePorts, Family: family, Proto: port.Protocol, Port: port.NodePort}
		c.add(key, Value{Shape: tidy(outside), Group: group})
		if s.ExternalLocal && len(found.cluster) > 0 {
			key.Map = InsideNodePorts
			c.add(key, Value{Shape: tidy(everybody), Group: group})
		}
		c.flow(port.Protocol, Flow{Family: family, Port: port.NodePort, Good: found.serving})
	}
	return !s.InternalLocal || external, s.InternalLocal || s.ExternalLocal && external
}

// guard adds the client networks of a load balancer address; false if everybody may use it.
func (c *compiler) guard(address netip.Addr, port state.Port) bool {
	for _, from := range c.service.SourceRanges {
		if FamilyOf(from.Addr()) == FamilyOf(address) {
			c.add(Key{Map: Sources, Family: FamilyOf(address), Addr: address, Proto: port.Protocol, Port: port.Port, From: from.Masked()}, Value{})
		}
	}
	return len(c.service.SourceRanges) > 0
}

func (c *compiler) endpoints(group Group, base uint32, members Map, list []netip.AddrPort) {
	key := Key{Family: FamilyOf(group.Addr), Addr: group.Addr, Proto: group.Proto, Port: group.Port}
	for i, to := range list {
		k := key
		k.Map, k.Index = Endpoints, base+uint32(i)
		c.add(k, Value{To: to})
		if c.service.Affinity > 0 {
			k = key
			k.Map, k.To = members, to
			c.add(k, Value{})
		}
	}
}

func (c *compiler) flow(p state.Protocol, f Flow) {
	if p == state.UDP {
		c.out.Flows = append(c.out.Flows, f)
	}
}

// tidy drops options that say nothing: a shape without endpoints only refuses or drops, one with endpoints never drops.
func tidy(s Shape) Shape {
	if s.N == 0 {
		return Shape{Drop: s.Drop}
	}
	s.Drop = false
	return s
}
