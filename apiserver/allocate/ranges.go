package allocate

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
)

// band is the size of the lower part of a range: a share of the whole, within limits.
func band(size, share, least, most int) int {
	if size <= least {
		return 0
	}
	return min(max(size/share, least), most)
}

// cidr is a range of service addresses.
type cidr struct {
	prefix netip.Prefix
	first  netip.Addr
	size   int // usable addresses, as far as an int goes
	static int // the first so many are not chosen while others are free
}

// maxSize bounds how many addresses of an IPv6 range are used.
const maxSize = 1 << 30

func newCIDR(p netip.Prefix) (cidr, error) {
	p = p.Masked()
	host := p.Addr().BitLen() - p.Bits()
	if !p.IsValid() || host < 2 {
		return cidr{}, fmt.Errorf("service range %s is too small: at least 4 addresses are needed", p)
	}
	c := cidr{prefix: p, first: p.Addr().Next(), size: maxSize}
	if host < 30 {
		c.size = 1<<host - 1 // without the network's own address
		if p.Addr().Is4() {
			c.size-- // and the broadcast address
		}
	}
	c.static = band(min(1<<min(host, 30), maxSize), 16, 16, 256)
	return c, nil
}

// at is the i-th usable address.
func (c cidr) at(i int) netip.Addr {
	bytes := c.first.AsSlice()
	tail := bytes[len(bytes)-4:]
	sum := uint64(binary.BigEndian.Uint32(tail)) + uint64(i)
	binary.BigEndian.PutUint32(tail, uint32(sum))
	for b := len(bytes) - 5; sum>>32 > 0 && b >= 0; b-- {
		bytes[b]++
		if bytes[b] != 0 {
			break
		}
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

// usable says whether an address may be given to a Service.
func (c cidr) usable(a netip.Addr) bool {
	return c.prefix.Contains(a) && a != c.prefix.Addr() && (!a.Is4() || c.size == maxSize || !c.at(c.size-1).Less(a))
}

// free yields the addresses in the order in which they are tried: the upper part from a random place on, then the
// lower part.
func (c cidr) free(yield func(netip.Addr) bool) {
	for i := range order(c.size, c.static) {
		if !yield(c.at(i)) {
			return
		}
	}
}

// order yields 0..size-1: those from static on first, each part from a random place on.
func order(size, static int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, part := range [][2]int{{static, size}, {0, static}} {
			low, n := part[0], part[1]-part[0]
			if n <= 0 {
				continue
			}
			start := rand.IntN(n)
			for i := range n {
				if !yield(low + (start+i)%n) {
					return
				}
			}
		}
	}
}

// PortRange is a range of node ports, both ends included.
type PortRange struct{ First, Last int }

// ParsePortRange reads "30000-32767".
func ParsePortRange(s string) (PortRange, error) {
	low, high, ok := strings.Cut(s, "-")
	first, err1 := strconv.Atoi(low)
	last, err2 := strconv.Atoi(high)
	if !ok || err1 != nil || err2 != nil || first < 1 || last < first || last > 65535 {
		return PortRange{}, fmt.Errorf("%q is not a range of ports such as 30000-32767", s)
	}
	return PortRange{first, last}, nil
}

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

func (r PortRange) size() int { return r.Last - r.First + 1 }

func (r PortRange) has(port int) bool { return r.First <= port && port <= r.Last }

// ports is the set of node ports in use: upstream's bitmap, one bit for each port from the first on.
type ports struct {
	PortRange
	bits *big.Int
}

func newPorts(r PortRange, data []byte) ports { return ports{r, new(big.Int).SetBytes(data)} }

func (p ports) taken(port int) bool { return p.bits.Bit(port-p.First) == 1 }

func (p ports) set(port int, taken bool) {
	var bit uint
	if taken {
		bit = 1
	}
	p.bits.SetBit(p.bits, port-p.First, bit)
}

// claim takes a port that was asked for.
func (p ports) claim(port int) error {
	switch {
	case !p.has(port):
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %s", p.PortRange)
	case p.taken(port):
		return errPortTaken
	}
	p.set(port, true)
	return nil
}

// next takes any free port.
func (p ports) next() (int, error) {
	for i := range order(p.size(), band(p.size(), 32, 16, 128)) {
		if port := p.First + i; !p.taken(port) {
			p.set(port, true)
			return port, nil
		}
	}
	return 0, errFull
}
