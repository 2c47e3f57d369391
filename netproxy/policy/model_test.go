package policy

import (
	"fmt"
	"net/netip"

	"hardway/netproxy/plan"
	"hardway/netproxy/policy/reference"
)

// model is a kernel that does what the rules of package kernel say, on plain maps. It refuses steps that a kernel would refuse.
type model map[Key]uint32

func (m model) apply(s Step) error {
	for _, e := range s.Delete {
		if v, ok := m[e.Key]; !ok || v != e.Value {
			return fmt.Errorf("deleted element %s is not there", e)
		}
		delete(m, e.Key)
	}
	for _, e := range s.Add {
		if _, ok := m[e.Key]; ok {
			return fmt.Errorf("element %s added twice", e)
		}
		if o, overlaps := m.overlap(e.Key); overlaps {
			return fmt.Errorf("element %s overlaps %s", e, Element{Key: o})
		}
		m[e.Key] = e.Value
	}
	return nil
}

// overlap finds another element that matches some of what k matches, in the maps of ranges.
func (m model) overlap(k Key) (Key, bool) {
	for o := range m {
		if o.Map != k.Map || o.Family != k.Family || o.Direction != k.Direction || o.Group != k.Group || o.ID != k.ID {
			continue
		}
		switch k.Map {
		case AllowedBlocks:
			if !o.Last.Less(k.Addr) && !k.Last.Less(o.Addr) {
				return o, true
			}
		case AllowedPorts:
			a, b := o.Ports, k.Ports
			if a.LastProtocol >= b.FirstProtocol && b.LastProtocol >= a.FirstProtocol && a.Last >= b.First && b.Last >= a.First {
				return o, true
			}
		}
	}
	return Key{}, false
}

func (m model) allows(c reference.Connection) bool {
	return m.allowsDirection(Ingress, c.Server, c.Client, c) && m.allowsDirection(Egress, c.Client, c.Server, c)
}

func (m model) allowsDirection(d Direction, self, peer netip.Addr, c reference.Connection) bool {
	family := plan.FamilyOf(self)
	group, isolated := m[Key{Map: Isolated, Direction: d, Family: family, Addr: self}]
	if !isolated {
		return true
	}
	classes := []uint32{Everybody}
	if class, ok := m[Key{Map: Classes, Family: family, Addr: peer}]; ok {
		classes = append(classes, class)
	}
	for _, class := range classes {
		if to, ok := m[Key{Map: AllowedPods, Family: family, Direction: d, Group: group, ID: class}]; ok && m.portsAllow(family, to, c) {
			return true
		}
	}
	for k, to := range m {
		if k.Map == AllowedBlocks && k.Family == family && k.Direction == d && k.Group == group && !peer.Less(k.Addr) && !k.Last.Less(peer) &&
			m.portsAllow(family, to, c) {
			return true
		}
	}
	return false
}

func (m model) portsAllow(family plan.Family, id uint32, c reference.Connection) bool {
	for k := range m {
		r := k.Ports
		if k.Map == AllowedPorts && k.Family == family && k.ID == id && r.FirstProtocol <= c.Protocol && c.Protocol <= r.LastProtocol &&
			r.First <= c.Port && c.Port <= r.Last {
			return true
		}
	}
	return false
}
