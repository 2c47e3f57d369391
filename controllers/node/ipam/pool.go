package ipam

import (
	"fmt"
	"math/big"
	"net/netip"
)

// maxBits bounds a pool to 2^16 subnets, as upstream does, so that its bitmap stays small.
const maxBits = 16

// pool hands out subnets of one size from one range. It is a bitmap with a cursor that goes round: a subnet that came
// back is the last to be used again, because other nodes may still have a route for it. It is not safe for concurrent
// use.
type pool struct {
	base  netip.Prefix
	mask  int
	used  []uint64
	count int
	next  int
}

// newPool divides the range into subnets with prefix length mask.
func newPool(base netip.Prefix, mask int) (*pool, error) {
	bits := mask - base.Bits()
	switch {
	case bits < 0 || mask > base.Addr().BitLen():
		return nil, fmt.Errorf("node mask size /%d does not fit into %v", mask, base)
	case bits > maxBits:
		return nil, fmt.Errorf("%v has more than %d subnets of size /%d", base, 1<<maxBits, mask)
	}
	n := 1 << bits
	return &pool{base: base.Masked(), mask: mask, used: make([]uint64, (n+63)/64), count: n}, nil
}

// occupy marks every subnet that overlaps with the prefix; what lies outside the range is of no concern.
func (p *pool) occupy(prefix netip.Prefix) {
	p.mark(prefix, true)
}

// release makes the subnets of the prefix free again.
func (p *pool) release(prefix netip.Prefix) {
	p.mark(prefix, false)
}

func (p *pool) mark(prefix netip.Prefix, used bool) {
	prefix = prefix.Masked()
	if !p.base.Overlaps(prefix) {
		return
	}
	first, n := 0, p.count
	if prefix.Bits() > p.base.Bits() {
		first = p.index(prefix.Addr())
		n = 1
		if prefix.Bits() < p.mask {
			n = 1 << (p.mask - prefix.Bits())
		}
	}
	for i := first; i < first+n; i++ {
		if used {
			p.used[i/64] |= 1 << (i % 64)
		} else {
			p.used[i/64] &^= 1 << (i % 64)
		}
	}
}

// take returns a free subnet and marks it; false when none is left.
func (p *pool) take() (netip.Prefix, bool) {
	for k := range p.count {
		i := (p.next + k) % p.count
		if p.used[i/64]&(1<<(i%64)) == 0 {
			p.used[i/64] |= 1 << (i % 64)
			p.next = (i + 1) % p.count
			return p.subnet(i), true
		}
	}
	return netip.Prefix{}, false
}

// contains reports whether the prefix lies inside the pool's range.
func (p *pool) contains(prefix netip.Prefix) bool {
	return prefix.Bits() >= p.base.Bits() && p.base.Contains(prefix.Addr())
}

// index is the number of the subnet that holds the address.
func (p *pool) index(a netip.Addr) int {
	offset := new(big.Int).Sub(number(a), number(p.base.Addr()))
	return int(offset.Rsh(offset, uint(a.BitLen()-p.mask)).Int64())
}

// subnet is the i-th subnet.
func (p *pool) subnet(i int) netip.Prefix {
	addr := p.base.Addr()
	n := new(big.Int).Lsh(big.NewInt(int64(i)), uint(addr.BitLen()-p.mask))
	n.Add(n, number(addr))
	b := n.FillBytes(make([]byte, addr.BitLen()/8))
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.mask)
}

func number(a netip.Addr) *big.Int {
	return new(big.Int).SetBytes(a.AsSlice())
}
