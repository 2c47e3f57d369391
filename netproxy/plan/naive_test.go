package plan

import (
	"net/netip"
	"slices"

	"hardway/netproxy/state"
)

// world is the naive evaluator: it answers for a packet by going through all services, without any elements.
type world map[state.Name]state.Facts

// services in the order in which they claim addresses.
func (w world) services() []state.Facts {
	var out []state.Facts
	for _, f := range w {
		if f.Service != nil {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b state.Facts) int { return seniority(a.Service, b.Service) })
	// A service without all of its cluster IPs is not served.
	taken := map[netip.Addr]bool{}
	return slices.DeleteFunc(out, func(f state.Facts) bool {
		lacks := false
		for _, a := range f.Service.ClusterIPs {
			lacks = lacks || taken[a]
		}
		for _, a := range f.Service.ClusterIPs {
			taken[a] = true
		}
		return lacks
	})
}

func (w world) send(here state.Node, p packet) verdict {
	clusterIP := false
	for _, f := range w.services() {
		clusterIP = clusterIP || slices.Contains(f.Service.ClusterIPs, p.to)
	}
	// Addresses come before node ports; the first service that claims the address and port has it.
	for _, f := range w.services() {
		s := f.Service
		for _, port := range s.Ports {
			if port.Port != p.port || port.Protocol != p.proto {
				continue
			}
			switch {
			case slices.Contains(s.ClusterIPs, p.to):
				return w.internal(here, f, port, p)
			case slices.Contains(s.ExternalIPs, p.to) && w.hasFamily(s, p.to):
				v := w.external(here, f, port, p)
				if v.word == "" && !w.allowed(s, p) {
					return verdict{word: "drop"}
				}
				return v
			}
		}
	}
	if clusterIP {
		return verdict{word: "refuse"}
	}
	for _, f := range w.services() {
		for _, port := range f.Service.Ports {
			if p.toNode && port.NodePort != 0 && port.NodePort == p.port && port.Protocol == p.proto && w.hasFamily(f.Service, p.to) {
				return w.external(here, f, port, p)
			}
		}
	}
	return verdict{word: "pass"}
}

func (world) hasFamily(s *state.Service, a netip.Addr) bool {
	return slices.ContainsFunc(s.ClusterIPs, func(c netip.Addr) bool { return c.Is4() == a.Is4() })
}

func (world) allowed(s *state.Service, p packet) bool {
	return len(s.SourceRanges) == 0 || slices.ContainsFunc(s.SourceRanges, func(r netip.Prefix) bool { return r.Contains(p.source) })
}

func (w world) internal(here state.Node, f state.Facts, port state.Port, p packet) verdict {
	l := choose(here, f, port, FamilyOf(p.to))
	to := l.cluster
	if f.Service.InternalLocal {
		to = l.local
	}
	return decide(to, len(l.cluster) > 0, p.from != pod)
}

func (w world) external(here state.Node, f state.Facts, port state.Port, p packet) verdict {
	l := choose(here, f, port, FamilyOf(p.to))
	switch {
	case !f.Service.ExternalLocal:
		return decide(l.cluster, len(l.cluster) > 0, true)
	case p.from != outside && len(l.cluster) > 0:
		return decide(l.cluster, true, p.from == node)
	default:
		return decide(l.local, len(l.cluster) > 0, false)
	}
}

func decide(to []netip.AddrPort, anyElsewhere, masquerade bool) verdict {
	switch {
	case len(to) > 0:
		return verdict{endpoints: to, masquerade: masquerade}
	case anyElsewhere:
		return verdict{word: "drop"}
	}
	return verdict{word: "refuse"}
}
