package server

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"hardway/netproxy/conntrack"
	"hardway/netproxy/plan"
)

// cleaner deletes stale UDP flows beside the loop, for a look through a large conntrack table takes longer than a step. It keeps the latest word
// on each address, so it is bounded by the number of UDP addresses.
type cleaner struct {
	conntrack *conntrack.Cleaner
	metrics   *metrics
	log       *zap.Logger
	wake      chan struct{}

	mu      sync.Mutex
	waiting map[flowKey]plan.Flow // guarded by mu
}

type flowKey struct {
	family plan.Family
	addr   string
	port   uint16
}

func newCleaner(c *conntrack.Cleaner, m *metrics, log *zap.Logger) *cleaner {
	return &cleaner{conntrack: c, metrics: m, log: log, wake: make(chan struct{}, 1), waiting: map[flowKey]plan.Flow{}}
}

// later notes flows to look at with the next now.
func (c *cleaner) later(flows []plan.Flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range flows {
		c.waiting[flowKey{f.Family, f.Addr.String(), f.Port}] = f
	}
}

// now starts a look, if there is anything to look at.
func (c *cleaner) now() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (c *cleaner) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
		c.mu.Lock()
		flows := make([]plan.Flow, 0, len(c.waiting))
		for _, f := range c.waiting {
			flows = append(flows, f)
		}
		clear(c.waiting)
		c.mu.Unlock()

		started := time.Now()
		n, err := c.conntrack.Clean(flows)
		c.metrics.flowsTook.Observe(time.Since(started).Seconds())
		c.metrics.flows.Add(float64(n))
		switch {
		case err != nil:
			c.log.Warn("stale UDP flows may remain", zap.Error(err))
		case n > 0:
			c.log.Info("deleted stale UDP flows", zap.Int("flows", n), zap.Duration("took", time.Since(started)))
		}
	}
}
