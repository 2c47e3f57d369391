package chain

import (
	"net/netip"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	l := NewLimiter(10, 3)
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	allowed := func(client netip.Addr, at time.Time, n int) (out int) {
		for range n {
			if l.Allow(client, at) {
				out++
			}
		}
		return out
	}
	now := time.Unix(1000, 0)
	for i, test := range []struct {
		client netip.Addr
		after  time.Duration
		want   int
	}{
		{one, 0, 3}, // the burst
		{two, 0, 3}, // another client has its own
		{one, 100 * time.Millisecond, 1},
		{one, 300 * time.Millisecond, 2},
		{one, 10 * time.Second, 3}, // a long pause does not add up
		{netip.MustParseAddr("fd00::1"), 0, 3},
		{netip.MustParseAddr("fd00::2"), 0, 0}, // the same network
	} {
		if got := allowed(test.client, now.Add(test.after), 20); got != test.want {
			t.Errorf("step %d: %d of 20 questions allowed, want %d", i, got, test.want)
		}
	}
	if !(*Limiter)(nil).Allow(one, now) {
		t.Error("without a limiter everything is allowed")
	}
}
