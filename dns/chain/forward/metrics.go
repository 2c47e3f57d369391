package forward

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts under CoreDNS's names. All Forwards share one.
type Metrics struct {
	took     *prometheus.HistogramVec
	unwell   *prometheus.CounterVec
	rejected prometheus.Counter
	broken   prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "coredns_proxy_request_duration_seconds",
			Help: "Histogram of the time each request took.", Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16)}, []string{"proxy_name", "to", "rcode"}),
		unwell: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coredns_proxy_healthcheck_failures_total",
			Help: "Counter of the number of failed healthchecks."}, []string{"proxy_name", "to"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: "coredns_forward_max_concurrent_rejects_total",
			Help: "Counter of the number of queries rejected because the concurrent queries were at maximum."}),
		broken: prometheus.NewCounter(prometheus.CounterOpts{Name: "coredns_forward_healthcheck_broken_total",
			Help: "Counter of the number of complete failures of the healthchecks."}),
	}
	reg.MustRegister(m.took, m.unwell, m.rejected, m.broken)
	return m
}

func (m *Metrics) observe(server, rcode string, started time.Time) {
	m.took.WithLabelValues("forward", server, rcode).Observe(time.Since(started).Seconds())
}
