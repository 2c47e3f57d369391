package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"hardway/dns/state"
	"hardway/dns/zone"
	"hardway/shared/version"
)

// names owns the zone.
type names struct {
	zone       atomic.Pointer[zone.Zone]
	mu         sync.Mutex // held by who replaces the zone
	programmed prometheus.Observer
	log        *zap.Logger
}

// say changes how names are answered.
func (n *names) say(o zone.Options) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.zone.Store(n.zone.Load().With(o))
}

func newNames(domain string, reg prometheus.Registerer, log *zap.Logger) *names {
	programmed := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "coredns_kubernetes_dns_programming_duration_seconds",
		Help: "Histogram of the time (in seconds) it took to program a dns instance.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 20)},
		[]string{"service_kind"})
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "coredns_build_info",
		Help: "A metric with a constant '1' value labeled by version, revision, and goversion from which CoreDNS was built."},
		[]string{"version", "revision", "goversion"})
	build.WithLabelValues("hardway-"+version.Hardway, "", "").Set(1)
	reg.MustRegister(programmed, build)
	n := &names{programmed: programmed.WithLabelValues("headless_with_selector"), log: log}
	n.zone.Store(zone.New(domain))
	return n
}

// follow brings changes into the zone until ctx ends: all that are queued at once, and none waits for more. It calls ready after the first.
func (n *names) follow(ctx context.Context, from *state.Tracker, ready func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-from.Ready():
		}
		started := time.Now()
		changes, triggers := from.Take()
		changes.Serial, changes.Synced = uint32(started.Unix()), true
		n.mu.Lock()
		n.zone.Store(n.zone.Load().Update(changes))
		n.mu.Unlock()
		for _, t := range triggers {
			n.programmed.Observe(time.Since(t).Seconds())
		}
		n.log.Debug("names changed", zap.Int("services", len(changes.Services)), zap.Duration("took", time.Since(started)))
		if ready != nil {
			ready()
			ready = nil
		}
	}
}
