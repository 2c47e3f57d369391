package allocate

import (
	"math/big"
	"net/netip"
	"testing"
)

func TestCIDR(t *testing.T) {
	for _, row := range []struct {
		cidr        string
		first, last string
		size        int
		static      int
	}{
		{"10.32.0.0/24", "10.32.0.1", "10.32.0.254", 254, 16},
		{"10.0.0.0/30", "10.0.0.1", "10.0.0.2", 2, 0},
		{"10.96.0.0/12", "10.96.0.1", "10.111.255.254", 1<<20 - 2, 256},
		{"10.32.0.7/28", "10.32.0.1", "10.32.0.14", 14, 0},
		{"fd00::/112", "fd00::1", "fd00::ffff", 1<<16 - 1, 256},
		{"fd00::ffff:ffff:0/64", "fd00::1", "fd00::4000:0", maxSize, 256},
	} {
		c, err := newCIDR(netip.MustParsePrefix(row.cidr))
		if err != nil {
			t.Fatal(err)
		}
		if c.at(0).String() != row.first || c.at(c.size-1).String() != row.last || c.size != row.size || c.static != row.static {
			t.Errorf("%s: %s to %s, %d addresses, %d static", row.cidr, c.at(0), c.at(c.size-1), c.size, c.static)
		}
		for addr, want := range map[netip.Addr]bool{
			c.prefix.Addr(): false, c.first: true, c.at(c.size - 1): true, netip.MustParseAddr("1.2.3.4"): false,
		} {
			if c.usable(addr) != want {
				t.Errorf("%s: %s usable is not %v", row.cidr, addr, want)
			}
		}
		if c.prefix.Addr().Is4() && c.usable(c.at(c.size-1).Next()) {
			t.Errorf("%s: the broadcast address is usable", row.cidr)
		}
	}
	if _, err := newCIDR(netip.MustParsePrefix("10.0.0.0/31")); err == nil {
		t.Error("a range of two addresses is accepted")
	}
}

func TestCarryBetweenBytes(t *testing.T) {
	c := cidr{first: netip.MustParseAddr("fd00::ffff:ffff")}
	if got := c.at(1).String(); got != "fd00::1:0:0" {
		t.Errorf("after %s comes %s", c.first, got)
	}
}

func TestEveryAddressOnceAndTheUpperPartFirst(t *testing.T) {
	c, err := newCIDR(netip.MustParsePrefix("10.32.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]bool{}
	n := 0
	for ip := range c.free {
		low := ip.Less(netip.MustParseAddr("10.32.0.17"))
		if seen[ip] || low != (n >= c.size-c.static) {
			t.Fatalf("%s as number %d", ip, n)
		}
		seen[ip] = true
		n++
	}
	if n != 254 {
		t.Errorf("%d addresses", n)
	}
}

func TestPorts(t *testing.T) {
	r, err := ParsePortRange("30000-32767")
	if err != nil {
		t.Fatal(err)
	}
	p := newPorts(r, nil)
	for _, row := range []struct {
		port int
		want string
	}{
		{30007, ""},
		{30007, "provided port is already allocated"},
		{29999, "provided port is not in the valid range. The range of valid ports is 30000-32767"},
		{32768, "provided port is not in the valid range. The range of valid ports is 30000-32767"},
	} {
		got := ""
		if err := p.claim(row.port); err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%d: %q, want %q", row.port, got, row.want)
		}
	}
	// Upstream's bitmap: a big-endian number whose bit n is the port first+n.
	if want := new(big.Int).Lsh(big.NewInt(1), 7); p.bits.Cmp(want) != 0 {
		t.Errorf("bits %x", p.bits)
	}
	for range r.size() - 1 {
		if _, err := p.next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.next(); err == nil || err.Error() != "range is full" {
		t.Errorf("a full range: %v", err)
	}
	for _, bad := range []string{"", "5", "5-4", "0-5", "1-70000", "a-b"} {
		if _, err := ParsePortRange(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
