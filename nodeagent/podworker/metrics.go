package podworker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the workers' figures, under upstream's names.
type Metrics struct {
	work  prometheus.Histogram
	start prometheus.Histogram
}

// NewMetrics registers the workers' metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		work: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubelet_pod_worker_duration_seconds", Help: "Duration of one round of a pod's worker.", Buckets: prometheus.DefBuckets,
		}),
		start: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubelet_pod_start_duration_seconds", Help: "Time from a pod's creation until it was ready.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600},
		}),
	}
	reg.MustRegister(m.work, m.start)
	return m
}

func (m *Metrics) step(began time.Time) { m.work.Observe(time.Since(began).Seconds()) }

func (m *Metrics) started(after time.Duration) { m.start.Observe(after.Seconds()) }
