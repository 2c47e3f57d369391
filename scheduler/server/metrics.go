package server

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// schedulerMetrics are upstream's names. The loop alone writes them, but for points.
type schedulerMetrics struct {
	attempts    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	algorithm   prometheus.Histogram
	endToEnd    *prometheus.HistogramVec
	tries       prometheus.Histogram
	pendingPods *prometheus.GaugeVec
	refusals    *prometheus.CounterVec
	cacheSize   *prometheus.GaugeVec
	preemptions prometheus.Counter
	victims     prometheus.Histogram
	arrivals    *prometheus.CounterVec
	waiting     *prometheus.GaugeVec
	points      *prometheus.HistogramVec
}

func newMetrics(reg *prometheus.Registry, droppedEvents func() uint64) *schedulerMetrics {
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
		tries: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "scheduler_pod_scheduling_attempts", Buckets: prometheus.ExponentialBuckets(1, 2, 5),
			Help: "Number of attempts to successfully schedule a pod.",
		}),
		pendingPods: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "scheduler_pending_pods",
			Help: "Number of pending pods, by the queue type.",
		}, []string{"queue"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_refusals_total",
			Help: "Number of tries that a plugin ended by refusing nodes, by plugin.",
		}, []string{"plugin", "profile"}),
		cacheSize: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "scheduler_cache_size",
			Help: "Number of nodes and pods in the scheduler cache.",
		}, []string{"type"}),
		preemptions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scheduler_preemption_attempts_total",
			Help: "Total preemption attempts in the cluster till now",
		}),
		victims: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "scheduler_preemption_victims", Buckets: prometheus.ExponentialBuckets(1, 2, 7),
			Help: "Number of selected preemption victims",
		}),
		arrivals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_queue_incoming_pods_total",
			Help: "Number of pods added to scheduling queues by event and queue type.",
		}, []string{"queue", "event"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "scheduler_unschedulable_pods",
			Help: "The number of unschedulable pods broken down by plugin name.",
		}, []string{"plugin", "profile"}),
		points: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_framework_extension_point_duration_seconds", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
			Help: "Latency for running all plugins of a specific extension point.",
		}, []string{"extension_point", "status", "profile"}),
	}
	reg.MustRegister(m.arrivals, m.waiting, m.points, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "scheduler_events_dropped_total",
		Help: "Number of Events that were never written because too many waited.",
	}, func() float64 { return float64(droppedEvents()) }))
	reg.MustRegister(m.attempts, m.duration, m.algorithm, m.endToEnd, m.tries, m.pendingPods, m.refusals, m.cacheSize, m.preemptions, m.victims)
	return m
}

func (m *schedulerMetrics) decided(began time.Time) { m.algorithm.Observe(time.Since(began).Seconds()) }

// Point takes note of how long an extension point took. It is called from many goroutines.
func (m *schedulerMetrics) Point(name, profile string, began time.Time, err error) {
	status := "Success"
	if err != nil {
		status = "Error"
	}
	m.points.WithLabelValues(name, status, profile).Observe(time.Since(began).Seconds())
}

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
	m.tries.Observe(float64(attempts))
}

func (m *schedulerMetrics) refused(profile string, plugins []string) {
	for _, name := range plugins {
		m.refusals.WithLabelValues(name, profile).Inc()
	}
}

func (m *schedulerMetrics) preempted(victims int) {
	m.preemptions.Inc()
	m.victims.Observe(float64(victims))
}

// state sets what there is now.
func (m *schedulerMetrics) state(l *loop) {
	active, backoff, unschedulable, gated := l.queue.Counts()
	for queue, n := range map[string]int{"active": active, "backoff": backoff, "unschedulable": unschedulable, "gated": gated} {
		m.pendingPods.WithLabelValues(queue).Set(float64(n))
	}
	for a, n := range l.queue.Arrivals {
		m.arrivals.WithLabelValues(a.Queue, a.Event).Add(float64(n))
	}
	clear(l.queue.Arrivals)
	l.queue.Refused(func(profile, plugin string, pods int) { m.waiting.WithLabelValues(plugin, profile).Set(float64(pods)) })
	nodes, pods, assumed := l.cluster.Size()
	for kind, n := range map[string]int{"nodes": nodes, "pods": pods, "assumed_pods": assumed} {
		m.cacheSize.WithLabelValues(kind).Set(float64(n))
	}
}
