package serve

import "github.com/prometheus/client_golang/prometheus"

// Metrics are about the streams that the request metrics do not see into, under upstream's names.
type Metrics struct {
	events *prometheus.CounterVec
	sizes  *prometheus.HistogramVec
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	labels := []string{"group", "version", "resource"}
	m := &Metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_watch_events_total", Help: "Number of events sent in watch clients"}, labels),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_watch_events_sizes", Help: "Watch event size distribution in bytes",
			Buckets: prometheus.ExponentialBuckets(1024, 2, 8)}, labels),
	}
	reg.MustRegister(m.events, m.sizes)
	return m
}

// watched are the metrics of one watch.
type watched struct {
	events prometheus.Counter
	sizes  prometheus.Observer
}

func (m *Metrics) of(e *endpoint) watched {
	if m == nil {
		return watched{}
	}
	labels := []string{e.gvk.Group, e.gvk.Version, e.plural()}
	return watched{m.events.WithLabelValues(labels...), m.sizes.WithLabelValues(labels...)}
}

// sent notes one event of so many bytes.
func (w watched) sent(bytes int) {
	if w.events != nil {
		w.events.Inc()
		w.sizes.Observe(float64(bytes))
	}
}
