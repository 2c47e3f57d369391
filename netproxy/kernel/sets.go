package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"

	"hardway/netproxy/plan"
	"hardway/netproxy/state"
)

// Names of the sets that no plan element lives in.
const (
	affinitySet      = "affinity"
	localAffinitySet = "local-affinity"
	refusalsSet      = "refusals"
)

// affinityLimit bounds how many (client, service) pairs are remembered per table; past it, clients without an entry are balanced anew with
// each connection until entries expire.
const affinityLimit = 262144

// entryMaps are the maps whose value is a shape and a group.
func entryMaps() []plan.Map {
	return []plan.Map{plan.VIPs, plan.NodePorts, plan.InsideVIPs, plan.InsideNodePorts}
}

// shapesOf names the verdict map that leads from the shape of an entry to its chain. It holds one element per chain.
func shapesOf(m plan.Map) string { return m.String() + "-shapes" }

// words is how many 4-byte words an address of the family takes.
func words(f plan.Family) int {
	if f == plan.IPv6 {
		return 4
	}
	return 1
}

// setsFor lists all sets and maps of a table. None of them but the affinity maps is ever written by a packet.
func setsFor(t *nftables.Table) []*nftables.Set {
	address := nftables.TypeIPAddr
	if t.Family == nftables.TableFamilyIPv6 {
		address = nftables.TypeIP6Addr
	}
	mark, proto, service, verdict := nftables.TypeMark, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeVerdict
	// key is concatenated when it has several parts, and then a part takes whole words.
	set := func(name string, key ...nftables.SetDatatype) *nftables.Set {
		s := &nftables.Set{Table: t, Name: name, KeyType: nftables.MustConcatSetType(key...), Concatenation: len(key) > 1}
		if len(key) == 1 {
			s.KeyType = key[0]
		}
		return s
	}
	toMap := func(s *nftables.Set, value ...nftables.SetDatatype) *nftables.Set {
		s.IsMap = true
		s.DataType = nftables.MustConcatSetType(value...)
		if len(value) == 1 {
			s.DataType = value[0]
		}
		return s
	}
	var sets []*nftables.Set
	for _, m := range entryMaps() {
		key := []nftables.SetDatatype{address, proto, service}
		if m == plan.NodePorts || m == plan.InsideNodePorts {
			key = key[1:]
		}
		sets = append(sets, toMap(set(m.String(), key...), proto, mark, mark, address, service), toMap(set(shapesOf(m), mark, mark), verdict))
	}
	for _, name := range []string{affinitySet, localAffinitySet} {
		s := toMap(set(name, address, proto, address, service), address, service)
		s.Dynamic, s.HasTimeout, s.Timeout, s.Size = true, true, 3*time.Hour, affinityLimit
		sets = append(sets, s)
	}
	sources := set(plan.Sources.String(), address, proto, service, address)
	sources.Interval = true
	sets = append(sets, policySets(t, address)...)
	return append(sets,
		toMap(set(plan.Endpoints.String(), proto, address, service, mark), address, service),
		set(plan.Members.String(), proto, address, service, address, service),
		set(plan.LocalMembers.String(), proto, address, service, address, service),
		set(plan.ClusterIPs.String(), address),
		set(plan.Hairpins.String(), address, address),
		sources,
		toMap(set(refusalsSet, mark, mark), verdict),
	)
}

// encode gives the kernel's form of an element.
func encode(e plan.Element) nftables.SetElement {
	k, v := e.Key, e.Value
	var key, value []byte
	var end []byte
	switch k.Map {
	case plan.VIPs, plan.InsideVIPs:
		key, value = port(addr(nil, k.Addr), k), balance(v)
	case plan.NodePorts, plan.InsideNodePorts:
		key, value = port(nil, k), balance(v)
	case plan.Endpoints:
		key, value = native(group(plan.Group{Addr: k.Addr, Proto: k.Proto, Port: k.Port}), k.Index), addrPort(nil, v.To)
	case plan.Members, plan.LocalMembers:
		key = addrPort(group(plan.Group{Addr: k.Addr, Proto: k.Proto, Port: k.Port}), k.To)
	case plan.ClusterIPs:
		key = addr(nil, k.Addr)
	case plan.Hairpins:
		key = addr(addr(nil, k.Addr), k.Addr)
	case plan.Sources:
		start := port(addr(nil, k.Addr), k)
		key, end = addr(start, k.From.Addr()), addr(slices.Clip(start), lastOf(k.From))
	}
	return nftables.SetElement{Key: key, KeyEnd: end, Val: value}
}

func addr(b []byte, a netip.Addr) []byte { return append(b, a.AsSlice()...) }

func addrPort(b []byte, to netip.AddrPort) []byte { return service(addr(b, to.Addr()), to.Port()) }

// service is a port in network order, filled up to a word.
func service(b []byte, p uint16) []byte { return append(b, byte(p>>8), byte(p), 0, 0) }

// port is the protocol and the port of a key, a word each.
func port(b []byte, k plan.Key) []byte { return service(proto(b, k.Proto), k.Port) }

func proto(b []byte, p state.Protocol) []byte { return append(b, byte(p), 0, 0, 0) }

// native is a number as the packet path computes with it: in host order.
func native(b []byte, n uint32) []byte { return binary.NativeEndian.AppendUint32(b, n) }

// group is a group as a part of keys.
func group(g plan.Group) []byte { return service(addr(proto(nil, g.Proto), g.Addr), g.Port) }

// balance is the value of an entry.
func balance(v plan.Value) []byte {
	return service(addr(append(proto(nil, v.Group.Proto), shapeKey(v.Shape)...), v.Group.Addr), v.Group.Port)
}

// Bits of the option word of a shape; the affinity timeout in seconds is above them.
const (
	optMasquerade = 1 << iota
	optLocal
	optDrop
	optGuarded
	optAffinityShift = 8
)

// shapeKey is a shape as two words: the number of endpoints and the options.
func shapeKey(s plan.Shape) []byte {
	options := uint32(s.Affinity/time.Second) << optAffinityShift
	for _, o := range []struct {
		on  bool
		bit uint32
	}{{s.Masquerade, optMasquerade}, {s.Local, optLocal}, {s.Drop, optDrop}, {s.Guarded, optGuarded}} {
		if o.on {
			options |= o.bit
		}
	}
	return native(native(nil, s.N), options)
}

// lastOf is the highest address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// sameSet reports whether a set in the kernel is the one that is wanted, apart from its elements. (The library does not tell the key of a
// verdict map.)
func sameSet(is, want *nftables.Set) bool {
	attributes := func(s *nftables.Set) string {
		text := fmt.Sprint(s.IsMap, s.Dynamic, s.HasTimeout, s.Interval, s.Concatenation, s.Size)
		if want.DataType.Name != nftables.TypeVerdict.Name {
			text += fmt.Sprint(s.KeyType.Name, s.KeyType.Bytes, s.DataType.Name, s.DataType.Bytes)
		}
		return text
	}
	return attributes(is) == attributes(want)
}
