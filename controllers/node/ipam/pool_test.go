package ipam

import (
	"net/netip"
	"testing"
)

func TestPool(t *testing.T) {
	p, err := newPool(netip.MustParsePrefix("10.200.0.0/22"), 24)
	if err != nil {
		t.Fatal(err)
	}
	p.occupy(netip.MustParsePrefix("10.200.1.0/24"))
	p.occupy(netip.MustParsePrefix("192.168.0.0/16")) // elsewhere
	take := func(want string) {
		t.Helper()
		got, ok := p.take()
		if text := got.String(); want == "" && ok || want != "" && text != want {
			t.Errorf("took %s, want %q", text, want)
		}
	}
	take("10.200.0.0/24")
	take("10.200.2.0/24")
	p.release(netip.MustParsePrefix("10.200.0.0/24"))
	take("10.200.3.0/24") // what came back is used last
	take("10.200.0.0/24")
	take("")
}

func TestOccupyPartsAndMore(t *testing.T) {
	for _, tt := range []struct {
		used string
		free int
	}{{"10.200.0.0/16", 0}, {"10.0.0.0/8", 0}, {"10.200.2.0/23", 2}, {"10.200.3.128/25", 3}} {
		p, err := newPool(netip.MustParsePrefix("10.200.0.0/22"), 24)
		if err != nil {
			t.Fatal(err)
		}
		p.occupy(netip.MustParsePrefix(tt.used))
		n := 0
		for _, ok := p.take(); ok; _, ok = p.take() {
			n++
		}
		if n != tt.free {
			t.Errorf("%s used: %d left, want %d", tt.used, n, tt.free)
		}
	}
}

func TestIPv6(t *testing.T) {
	p, err := newPool(netip.MustParsePrefix("fd00:1::/56"), 64)
	if err != nil {
		t.Fatal(err)
	}
	p.occupy(netip.MustParsePrefix("fd00:1::/64"))
	if got, _ := p.take(); got.String() != "fd00:1:0:1::/64" {
		t.Errorf("took %s", got)
	}
}

func TestPoolsThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		base string
		mask int
	}{{"10.0.0.0/24", 16}, {"10.0.0.0/7", 24}, {"10.0.0.0/24", 33}} {
		if _, err := newPool(netip.MustParsePrefix(tt.base), tt.mask); err == nil {
			t.Errorf("%s in parts of /%d is accepted", tt.base, tt.mask)
		}
	}
}
