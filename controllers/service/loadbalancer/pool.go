package loadbalancer

import (
	"fmt"
	"net/netip"
	"strings"
)

// span is a range of addresses, both ends included.
type span struct{ first, last netip.Addr }

func (s span) String() string { return s.first.String() + "-" + s.last.String() }

// Pool is the addresses that may be given out, in the order of the configuration.
type Pool []span

// ParsePool reads ranges: "192.0.2.10-192.0.2.20", "192.0.2.0/28" or a single address. The first and the last address of
// an IPv4 prefix shorter than /31 are left out: they are the network's and the broadcast.
func ParsePool(ranges []string) (Pool, error) {
	var pool Pool
	for _, text := range ranges {
		s, err := parseSpan(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		for _, other := range pool {
			if s.first.Is4() == other.first.Is4() && !s.last.Less(other.first) && !other.last.Less(s.first) {
				return nil, fmt.Errorf("%s: overlaps with %s", text, other)
			}
		}
		pool = append(pool, s)
	}
	return pool, nil
}

func parseSpan(text string) (span, error) {
	if from, to, ok := strings.Cut(text, "-"); ok {
		first, err := netip.ParseAddr(strings.TrimSpace(from))
		if err != nil {
			return span{}, err
		}
		last, err := netip.ParseAddr(strings.TrimSpace(to))
		if err != nil {
			return span{}, err
		}
		if first.Is4() != last.Is4() || last.Less(first) {
			return span{}, fmt.Errorf("%s: the end is not behind the beginning", text)
		}
		return span{first, last}, nil
	}
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		return span{a, a}, err
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return span{}, err
	}
	s := span{p.Masked().Addr(), lastOf(p)}
	if p.Addr().Is4() && p.Bits() < 31 {
		s = span{s.first.Next(), s.last.Prev()}
	}
	return s, nil
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// has says whether an address is of the pool.
func (p Pool) has(a netip.Addr) bool {
	for _, s := range p {
		if a.Is4() == s.first.Is4() && !a.Less(s.first) && !s.last.Less(a) {
			return true
		}
	}
	return false
}

// free is the first address of the family that is not taken. It looks at no more addresses than are taken, and one.
func (p Pool) free(six bool, taken map[netip.Addr]bool) (netip.Addr, bool) {
	for _, s := range p {
		if s.first.Is6() != six {
			continue
		}
		for a := s.first; a.IsValid() && !s.last.Less(a); a = a.Next() {
			if !taken[a] {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}
