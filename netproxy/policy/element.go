package policy

import (
	"cmp"
	"fmt"
	"net/netip"

	"hardway/netproxy/plan"
)

// Map names one kernel map or set. Every one exists once per address family.
type Map uint8

// The maps, as doc.go draws them.
const (
	Isolated Map = iota
	Classes
	AllowedPods
	AllowedBlocks
	AllowedPorts
	mapCount
)

// String is the name of the map in the kernel.
func (m Map) String() string {
	return [...]string{"isolated", "classes", "allowed-pods", "allowed-blocks", "allowed-ports"}[m]
}

// Maps lists them all.
func Maps() []Map {
	var out []Map
	for m := range mapCount {
		out = append(out, m)
	}
	return out
}

// Direction is that of the connection, seen from the isolated pod.
type Direction uint8

// The two directions.
const (
	Ingress Direction = iota
	Egress
)

// String is the word of the API in lower case.
func (d Direction) String() string { return [...]string{"ingress", "egress"}[d] }

// Everybody is the class that stands for any peer.
const Everybody uint32 = 0

// Key is the left side of an element. Which fields count depends on the map; all others are zero.
type Key struct {
	Map       Map
	Family    plan.Family
	Direction Direction  // Isolated, AllowedPods, AllowedBlocks
	Group     uint32     // AllowedPods, AllowedBlocks
	ID        uint32     // AllowedPods: the class; AllowedPorts: the number of the set of ports
	Addr      netip.Addr // Isolated, Classes; AllowedBlocks: the first of the block
	Last      netip.Addr // AllowedBlocks
	Ports     PortRange  // AllowedPorts
}

func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Family, o.Family), cmp.Compare(k.Map, o.Map), cmp.Compare(k.Direction, o.Direction), cmp.Compare(k.Group, o.Group),
		cmp.Compare(k.ID, o.ID), k.Addr.Compare(o.Addr), k.Last.Compare(o.Last), k.Ports.compare(o.Ports))
}

// Element is one entry of one map or set. The value is a group, a class or the number of a set of ports; 0 in sets.
type Element struct {
	Key   Key
	Value uint32
}

// String is one readable line.
func (e Element) String() string {
	k := e.Key
	switch k.Map {
	case Isolated:
		return fmt.Sprintf("%s: %s . %s : %08x", k.Map, k.Direction, k.Addr, e.Value)
	case AllowedPods:
		return fmt.Sprintf("%s: %s . %08x . %08x : %08x", k.Map, k.Direction, k.Group, k.ID, e.Value)
	case AllowedBlocks:
		return fmt.Sprintf("%s: %s . %08x . %s-%s : %08x", k.Map, k.Direction, k.Group, k.Addr, k.Last, e.Value)
	case AllowedPorts:
		return fmt.Sprintf("%s: ipv%d . %s . %08x", k.Map, k.Family, k.Ports, k.ID)
	default:
		return fmt.Sprintf("%s: %s : %08x", k.Map, k.Addr, e.Value)
	}
}

// Step is the difference between two states of the kernel. Elements to delete come with their old values; an element whose value changes is in
// both lists. Both are ordered.
type Step struct {
	Delete []Element
	Add    []Element
}

// Empty reports whether the kernel has nothing to do.
func (s Step) Empty() bool { return len(s.Delete)+len(s.Add) == 0 }
