package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"hardway/netproxy/state"
)

// Map names one kernel map or set.
type Map uint8

// The maps. Every one exists once per address family.
const (
	// VIPs: (address, protocol, port) -> Balance. Cluster IPs and external addresses.
	VIPs Map = iota
	// NodePorts: (protocol, port) -> Balance, for packets to an address of the node.
	NodePorts
	// InsideVIPs and InsideNodePorts hold what clients inside the cluster use in place of the entry of the same key in VIPs and NodePorts:
	// services with externalTrafficPolicy Local, where outsiders may only reach endpoints of this node.
	InsideVIPs
	InsideNodePorts
	// Endpoints: (group, index) -> address and port of one endpoint.
	Endpoints
	// Members and LocalMembers: (group, endpoint), for groups with session affinity: is a remembered endpoint still good?
	Members
	LocalMembers
	// ClusterIPs: the cluster IP addresses.
	ClusterIPs
	// Hairpins: addresses of endpoints on this node, which may reach themselves through a service.
	Hairpins
	// Sources: (address, protocol, port, client network) that may use a load balancer address with source ranges.
	Sources
)

// String is the name of the map in the kernel.
func (m Map) String() string {
	return [...]string{"vips", "node-ports", "inside-vips", "inside-node-ports", "endpoints", "members", "local-members", "cluster-ips",
		"hairpins", "sources"}[m]
}

// Family is an address family: 4 or 6.
type Family uint8

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf tells the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Key is the left side of an element. Which fields count depends on the map; all others are zero.
type Key struct {
	Map    Map
	Family Family
	Proto  state.Protocol
	Port   uint16
	Index  uint32         // Endpoints
	Addr   netip.Addr     // all but NodePorts and InsideNodePorts
	To     netip.AddrPort // Members, LocalMembers
	From   netip.Prefix   // Sources
}

// compare orders keys for printing and for stable plans.
func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Family, o.Family), cmp.Compare(k.Map, o.Map), k.Addr.Compare(o.Addr), cmp.Compare(k.Proto, o.Proto),
		cmp.Compare(k.Port, o.Port), cmp.Compare(k.Index, o.Index), k.To.Compare(o.To),
		k.From.Addr().Compare(o.From.Addr()), cmp.Compare(k.From.Bits(), o.From.Bits()))
}

// Group names a list of endpoints: the cluster IP port of the service they belong to. (A service has at most two lists per port: all
// endpoints, and those of this node; the second is numbered from [LocalBase].)
type Group struct {
	Addr  netip.Addr
	Proto state.Protocol
	Port  uint16
}

// LocalBase is the index of the first endpoint in the list of this node's endpoints of a group.
const LocalBase uint32 = 1 << 31

// Shape is how packets of an entry are handled. Entries of one shape share one chain, so the number of chains does not grow with the number
// of services.
type Shape struct {
	N          uint32        // endpoints to choose from
	Masquerade bool          // replace the client's address with the node's
	Local      bool          // choose among this node's endpoints
	Drop       bool          // with N == 0: drop in silence instead of refusing
	Guarded    bool          // only clients in Sources
	Affinity   time.Duration // whole seconds; 0 means none
}

// String is short and a valid end of a chain name: "3", "3-masquerade", "2-local-affinity-10800".
func (s Shape) String() string {
	var text strings.Builder
	text.WriteString(fmt.Sprint(s.N))
	for _, option := range []struct {
		on   bool
		name string
	}{{s.Masquerade, "masquerade"}, {s.Local, "local"}, {s.Drop, "drop"}, {s.Guarded, "guarded"}} {
		if option.on {
			text.WriteString("-" + option.name)
		}
	}
	if s.Affinity > 0 {
		text.WriteString(fmt.Sprintf("-affinity-%d", int(s.Affinity.Seconds())))
	}
	return text.String()
}

// Value is the right side of an element: a Balance in the four maps of entries, an address and port in Endpoints, nothing in sets.
type Value struct {
	Shape Shape
	Group Group
	To    netip.AddrPort
}

// Element is one entry of one map or set.
type Element struct {
	Key   Key
	Value Value
}

// String is one readable line, close to what nft prints.
func (e Element) String() string {
	k, v := e.Key, e.Value
	switch k.Map {
	case VIPs, InsideVIPs:
		return fmt.Sprintf("%s: %s . %s . %d : %s of %s", k.Map, k.Addr, k.Proto, k.Port, v.Shape, v.Group)
	case NodePorts, InsideNodePorts:
		return fmt.Sprintf("%s: ipv%d . %s . %d : %s of %s", k.Map, k.Family, k.Proto, k.Port, v.Shape, v.Group)
	case Endpoints:
		list, index := "", k.Index
		if index >= LocalBase {
			list, index = "local ", index-LocalBase
		}
		return fmt.Sprintf("%s: %s . %s . %d . %s%d : %s", k.Map, k.Addr, k.Proto, k.Port, list, index, v.To)
	case Members, LocalMembers:
		return fmt.Sprintf("%s: %s . %s . %d . %s", k.Map, k.Addr, k.Proto, k.Port, k.To)
	case Sources:
		return fmt.Sprintf("%s: %s . %s . %d . %s", k.Map, k.Addr, k.Proto, k.Port, k.From)
	default:
		return fmt.Sprintf("%s: %s", k.Map, k.Addr)
	}
}

// String is "address . protocol . port".
func (g Group) String() string { return fmt.Sprintf("%s . %s . %d", g.Addr, g.Proto, g.Port) }

// Chain names one chain that balances the entries of one map that have one shape.
type Chain struct {
	Family Family
	From   Map // one of the four maps of entries
	Shape  Shape
}

// String is the chain's name in the kernel.
func (c Chain) String() string { return c.From.String() + "-" + c.Shape.String() }

func (c Chain) compare(o Chain) int {
	return cmp.Or(cmp.Compare(c.Family, o.Family), cmp.Compare(c.From, o.From), cmp.Compare(c.String(), o.String()))
}
