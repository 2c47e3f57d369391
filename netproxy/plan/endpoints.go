package plan

import (
	"net/netip"
	"slices"

	"hardway/netproxy/state"
)

// lists are the endpoints of one service port in one family, as addresses in order.
type lists struct {
	cluster []netip.AddrPort // where the service may send anybody
	local   []netip.AddrPort // those on this node, for a traffic policy Local
	serving []netip.AddrPort // all that still answer: established flows to them are left alone
	own     []netip.Addr     // addresses of endpoints that may be on this node
	some    bool             // cluster or local endpoints exist anywhere: silence is better than refusal where a policy forbids them
}

// candidate is one endpoint that listens for the port in question.
type candidate struct {
	state.Endpoint
	to netip.AddrPort
}

// choose picks the endpoints of a service port for clients of this node.
//
// Ready endpoints are used; those that are terminating but still serve are used only where no ready one is left. Of the ready ones, hints and
// trafficDistribution narrow the choice to this node or this zone, but never to nothing.
func choose(node state.Node, facts state.Facts, port state.Port, family Family) lists {
	all := candidates(facts.Slices, port, family)
	ready := keep(all, func(c candidate) bool { return c.Ready })
	leaving := keep(all, func(c candidate) bool { return !c.Ready && c.Serving && c.Terminating })
	here := func(c candidate) bool { return c.Node != "" && c.Node == node.Name }

	cluster := near(node, facts.Service.PreferSameNode, ready)
	if len(cluster) == 0 {
		cluster = leaving
	}
	local := keep(ready, here)
	if len(local) == 0 {
		local = keep(leaving, here)
	}
	l := lists{
		cluster: addresses(cluster),
		local:   addresses(local),
		serving: addresses(keep(all, func(c candidate) bool { return c.Ready || c.Serving })),
		some:    len(cluster) > 0,
	}
	for _, c := range all {
		if c.Node == "" || here(c) {
			l.own = append(l.own, c.Addr)
		}
	}
	return l
}

// candidates collects the endpoints of the slices that have the port, each address once, in order. Of two entries for one address (which
// happens while an endpoint moves from slice to slice) the more usable counts.
func candidates(from []state.Slice, port state.Port, family Family) []candidate {
	var found []candidate
	for _, s := range from {
		i := slices.IndexFunc(s.Ports, func(p state.SlicePort) bool { return p.Name == port.Name && p.Protocol == port.Protocol })
		if i < 0 {
			continue
		}
		for _, e := range s.Endpoints {
			if FamilyOf(e.Addr) == family {
				found = append(found, candidate{e, netip.AddrPortFrom(e.Addr, s.Ports[i].Port)})
			}
		}
	}
	rank := func(c candidate) int {
		switch {
		case c.Ready:
			return 0
		case c.Serving:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		if c := a.to.Compare(b.to); c != 0 {
			return c
		}
		return rank(a) - rank(b)
	})
	return slices.CompactFunc(found, func(a, b candidate) bool { return a.to == b.to })
}

// near narrows ready endpoints to those meant for this node, else for this zone, else returns them all. Hints count only when every ready
// endpoint has one: a half-hinted list is one in the middle of a change. A service that prefers its own node but has no hints yet is served by
// the nodes that its endpoints name.
func near(node state.Node, preferSameNode bool, ready []candidate) []candidate {
	every := func(has func(candidate) bool) bool {
		return !slices.ContainsFunc(ready, func(c candidate) bool { return !has(c) })
	}
	var found []candidate
	switch {
	case every(func(c candidate) bool { return len(c.ForNodes) > 0 }):
		found = keep(ready, func(c candidate) bool { return slices.Contains(c.ForNodes, node.Name) })
	case preferSameNode:
		found = keep(ready, func(c candidate) bool { return c.Node == node.Name })
	}
	if len(found) == 0 && node.Zone != "" && every(func(c candidate) bool { return len(c.ForZones) > 0 }) {
		found = keep(ready, func(c candidate) bool { return slices.Contains(c.ForZones, node.Zone) })
	}
	if len(found) == 0 {
		return ready
	}
	return found
}

func keep(all []candidate, wanted func(candidate) bool) []candidate {
	var kept []candidate
	for _, c := range all {
		if wanted(c) {
			kept = append(kept, c)
		}
	}
	return kept
}

func addresses(of []candidate) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(of))
	for _, c := range of {
		out = append(out, c.to)
	}
	return out
}
