package server

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// schedulerMetrics are upstream's names. The loop alone writes them.
type schedulerMetrics struct {
	attempts    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	algorithm   prometheus.Histogram
	endToEnd    *prometheus.HistogramVec
	pendingPods *prometheus.GaugeVec
}

func newMetrics(reg *prometheus.Registry) *schedulerMetrics {
	fast := prometheus.ExponentialBuckets(0.00001, 2, 20)
	m := &schedulerMetrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_schedule_attempts_total",
			Help: "Number of attempts to schedule pods, by the result.",
		}, []string{"result", "profile"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_scheduling_attempt_duration_seconds", Buckets: fast,
			Help: "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
		}, []string{"result", "profile"}),
		algorithm: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "scheduler_scheduling_algorithm_duration_seconds", Buckets: fast,
			Help: "Scheduling algorithm latency in seconds",
		}),
		endToEnd: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_pod_scheduling_sli_duration_seconds", Buckets: prometheus.ExponentialBuckets(0.001, 2, 20),
			Help: "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue.",
		}, []string{"attempts"}),
		pendingPods: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "scheduler_pending_pods",
			Help: "Number of pending pods, by the queue type.",
		}, []string{"queue"}),
	}
	reg.MustRegister(m.attempts, m.duration, m.algorithm, m.endToEnd, m.pendingPods)
	return m
}

func (m *schedulerMetrics) decided(began time.Time) { m.algorithm.Observe(time.Since(began).Seconds()) }

func (m *schedulerMetrics) attempt(result, profile string, began time.Time) {
	m.attempts.WithLabelValues(result, profile).Inc()
	m.duration.WithLabelValues(result, profile).Observe(time.Since(began).Seconds())
}

func (m *schedulerMetrics) bound(profile string, began, since time.Time, attempts int) {
	m.attempt("scheduled", profile, began)
	label := "15+"
	if attempts < 15 {
		label = fmt.Sprint(attempts)
	}
	m.endToEnd.WithLabelValues(label).Observe(time.Since(since).Seconds())
}

func (m *schedulerMetrics) pending(counts map[string]int) {
	for queue, n := range counts {
		m.pendingPods.WithLabelValues(queue).Set(float64(n))
	}
}
