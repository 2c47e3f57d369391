package policy

import (
	"net/netip"
	"slices"

	"hardway/netproxy/plan"
	"hardway/netproxy/state"
)

// block is an ipBlock of a rule with the ports that the rule allows.
type block struct {
	peer  state.PolicyPeer
	ports []PortRange
}

// span is a run of addresses with the ports that are allowed there.
type span struct {
	first, last netip.Addr
	ports       ports
}

// edge is where a block begins, or the first address behind it.
type edge struct {
	at    netip.Addr
	block int
	count int // +1 where it begins, -1 behind it
}

// spans cuts blocks, which may overlap, into runs that do not.
func spans(blocks []block, family plan.Family) []span {
	edges := edgesOf(blocks, family)
	active := map[int]int{}
	var out []span
	for i := 0; i < len(edges); {
		at := edges[i].at
		for ; i < len(edges) && edges[i].at == at; i++ {
			active[edges[i].block] += edges[i].count
		}
		last := lastAddr(at)
		if i < len(edges) {
			last = edges[i].at.Prev()
		}
		out = extend(out, span{at, last, allowed(blocks, active)})
	}
	return out
}

// extend appends a span that allows anything, or makes the one before longer.
func extend(out []span, s span) []span {
	if len(s.ports) == 0 {
		return out
	}
	if n := len(out); n > 0 && out[n-1].last.Next() == s.first && slices.Equal(out[n-1].ports, s.ports) {
		out[n-1].last = s.last
		return out
	}
	return append(out, s)
}

func allowed(blocks []block, active map[int]int) ports {
	var ranges []PortRange
	for b, count := range active {
		if count > 0 {
			ranges = append(ranges, blocks[b].ports...)
		}
	}
	return union(ranges)
}

// edgesOf lists the edges of the blocks of one family in order. An exception takes its part of the block away: there the count of the block
// falls to 0 or, where exceptions overlap, below.
func edgesOf(blocks []block, family plan.Family) []edge {
	var edges []edge
	for i, b := range blocks {
		if plan.FamilyOf(b.peer.Block.Addr()) != family {
			continue
		}
		add := func(p netip.Prefix, count int) {
			edges = append(edges, edge{p.Addr(), i, count})
			if behind := lastOf(p).Next(); behind.IsValid() {
				edges = append(edges, edge{behind, i, -count})
			}
		}
		add(b.peer.Block, +1)
		for _, e := range b.peer.Except {
			if b.peer.Block.Overlaps(e) && e.Bits() >= b.peer.Block.Bits() {
				add(e, -1)
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
	return edges
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

// lastAddr is the highest address of the family of a.
func lastAddr(a netip.Addr) netip.Addr { return lastOf(netip.PrefixFrom(a, 0)) }
