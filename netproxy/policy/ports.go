package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"hardway/netproxy/state"
)

// PortRange is a range of ports of a range of protocols.
type PortRange struct {
	FirstProtocol, LastProtocol state.Protocol
	First, Last                 uint16
}

// allPorts are those of every protocol, and all that protocols without ports send.
var allPorts = PortRange{0, 255, 0, 65535}

// String is "6 . 80-90".
func (r PortRange) String() string {
	return fmt.Sprintf("%d-%d . %d-%d", r.FirstProtocol, r.LastProtocol, r.First, r.Last)
}

func (r PortRange) compare(o PortRange) int {
	return cmp.Or(cmp.Compare(r.FirstProtocol, o.FirstProtocol), cmp.Compare(r.LastProtocol, o.LastProtocol), cmp.Compare(r.First, o.First),
		cmp.Compare(r.Last, o.Last))
}

// ports is a set of ports: ranges in order that neither overlap nor touch.
type ports []PortRange

// union makes the set of all ports in any of the ranges, which are of one protocol each, or all ports.
func union(ranges []PortRange) ports {
	if slices.Contains(ranges, allPorts) {
		return ports{allPorts}
	}
	sorted := slices.SortedFunc(slices.Values(ranges), PortRange.compare)
	var out ports
	for _, r := range sorted {
		if n := len(out); n > 0 && out[n-1].FirstProtocol == r.FirstProtocol && uint32(r.First) <= uint32(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// String tells sets apart.
func (p ports) String() string {
	var text strings.Builder
	for _, r := range p {
		text.WriteString(r.String() + ";")
	}
	return text.String()
}
