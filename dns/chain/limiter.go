package chain

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// limiterSize is how many clients are told apart: two that fall on one place share its limit. It takes 512 KB.
const limiterSize = 1 << 16

// Limiter bounds the questions of each client. It keeps for each the time at which all that it asked so far would have been due at the permitted
// rate (GCRA), so there is nothing to fill up or to forget. A nil Limiter allows everything.
type Limiter struct {
	seed     maphash.Seed
	interval int64 // nanoseconds between two questions
	burst    int64 // how far a client may be ahead, in nanoseconds
	due      [limiterSize]atomic.Int64
}

// NewLimiter allows rate questions a second, and so many more at once.
func NewLimiter(rate, burst int) *Limiter {
	interval := int64(time.Second) / int64(rate)
	return &Limiter{seed: maphash.MakeSeed(), interval: interval, burst: interval * int64(burst)}
}

// Allow counts a question and reports whether it may be answered.
func (l *Limiter) Allow(client netip.Addr, now time.Time) bool {
	if l == nil {
		return true
	}
	due := &l.due[l.place(client)]
	for at := now.UnixNano(); ; {
		was := due.Load()
		next := max(was, at) + l.interval
		if next-at > l.burst {
			return false
		}
		if due.CompareAndSwap(was, next) {
			return true
		}
	}
}

// place is the same for all addresses of one IPv6 network /64: they are one client.
func (l *Limiter) place(client netip.Addr) uint64 {
	b := client.As16()
	key := b[:]
	if client.Is6() {
		key = b[:8]
	}
	return maphash.Bytes(l.seed, key) % limiterSize
}
