package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"hardway/netproxy/state"
)

// model is a kernel that does what the rules of package kernel say, on plain maps. It refuses steps that a kernel would refuse.
type model struct {
	elements map[Key]Value
	chains   map[Chain]bool
}

func newModel() *model { return &model{map[Key]Value{}, map[Chain]bool{}} }

func (m *model) apply(s Step) error {
	for _, c := range s.NewChains {
		if m.chains[c] {
			return fmt.Errorf("chain %s added twice", c)
		}
		m.chains[c] = true
	}
	for _, e := range s.Delete {
		if v, ok := m.elements[e.Key]; !ok || v != e.Value {
			return fmt.Errorf("deleted element %s is not there", e)
		}
		delete(m.elements, e.Key)
	}
	for _, e := range s.Add {
		if _, ok := m.elements[e.Key]; ok {
			return fmt.Errorf("element %s added twice", e)
		}
		m.elements[e.Key] = e.Value
	}
	for _, c := range s.OldChains {
		if !m.chains[c] {
			return fmt.Errorf("deleted chain %s is not there", c)
		}
		delete(m.chains, c)
	}
	return nil
}

// client is where a packet comes from.
type client int

const (
	pod client = iota
	node
	outside
)

// packet is the first packet of a connection.
type packet struct {
	from   client
	source netip.Addr
	to     netip.Addr
	toNode bool // to is an address of the node, not loopback
	proto  state.Protocol
	port   uint16
}

// verdict is what becomes of a packet: "pass" (not for a service), "refuse", "drop", or the endpoints that it may go to.
type verdict struct {
	word       string
	endpoints  []netip.AddrPort
	masquerade bool
}

func (v verdict) String() string {
	if v.word != "" {
		return v.word
	}
	var to []string
	for _, e := range v.endpoints {
		to = append(to, e.String())
	}
	text := "one of " + strings.Join(to, " ")
	if v.masquerade {
		text += ", masqueraded"
	}
	return text
}

// send follows the chain "services", then "unserved".
func (m *model) send(p packet) verdict {
	family := FamilyOf(p.to)
	vip := func(table Map) Key { return Key{Map: table, Family: family, Addr: p.to, Proto: p.proto, Port: p.port} }
	nodePort := func(table Map) Key { return Key{Map: table, Family: family, Proto: p.proto, Port: p.port} }
	clusterIP := Key{Map: ClusterIPs, Family: family, Addr: p.to}
	_, isClusterIP := m.elements[clusterIP]

	masquerade := p.from == node && m.has(vip(InsideVIPs)) || isClusterIP && p.from != pod
	if p.from != outside {
		if v, ok := m.balance(p, vip(InsideVIPs), masquerade); ok {
			return v
		}
	}
	if v, ok := m.balance(p, vip(VIPs), masquerade); ok {
		return v
	}
	if p.toNode {
		masquerade = masquerade || p.from == node && m.has(nodePort(InsideNodePorts))
		if p.from != outside {
			if v, ok := m.balance(p, nodePort(InsideNodePorts), masquerade); ok {
				return v
			}
		}
		if v, ok := m.balance(p, nodePort(NodePorts), masquerade); ok {
			return v
		}
	}
	if word, ok := m.unserved(vip(VIPs)); ok {
		return verdict{word: word}
	}
	if isClusterIP {
		return verdict{word: "refuse"}
	}
	if word, ok := m.unserved(nodePort(NodePorts)); ok && p.toNode {
		return verdict{word: word}
	}
	return verdict{word: "pass"}
}

func (m *model) has(k Key) bool { _, ok := m.elements[k]; return ok }

// balance is the chain of a shape. No entry, or no chain for its shape: the packet goes on.
func (m *model) balance(p packet, k Key, masquerade bool) (verdict, bool) {
	v, ok := m.elements[k]
	if !ok || !m.chains[Chain{k.Family, k.Map, v.Shape}] {
		return verdict{}, false
	}
	if v.Shape.Guarded && !m.guard(p) {
		return verdict{word: "drop"}, true
	}
	out := verdict{masquerade: masquerade || v.Shape.Masquerade}
	base, members := uint32(0), Members
	if v.Shape.Local {
		base, members = LocalBase, LocalMembers
	}
	for i := range v.Shape.N {
		group := Key{Family: k.Family, Addr: v.Group.Addr, Proto: v.Group.Proto, Port: v.Group.Port}
		at := group
		at.Map, at.Index = Endpoints, base+i
		e, ok := m.elements[at]
		if !ok {
			return verdict{word: fmt.Sprintf("endpoint %d of %s is missing", i, v.Group)}, true
		}
		member := group
		member.Map, member.To = members, e.To
		if v.Shape.Affinity > 0 != m.has(member) {
			return verdict{word: fmt.Sprintf("membership of %s is wrong", e.To)}, true
		}
		out.endpoints = append(out.endpoints, e.To)
	}
	slices.SortFunc(out.endpoints, netip.AddrPort.Compare)
	return out, true
}

func (m *model) guard(p packet) bool {
	for k := range m.elements {
		if k.Map == Sources && k.Addr == p.to && k.Proto == p.proto && k.Port == p.port && k.From.Contains(p.source) {
			return true
		}
	}
	return false
}

func (m *model) unserved(k Key) (string, bool) {
	v, ok := m.elements[k]
	if !ok || v.Shape.N > 0 {
		return "", false
	}
	if v.Shape.Drop {
		return "drop", true
	}
	return "refuse", true
}
