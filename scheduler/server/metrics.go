package server

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// schedulerMetrics are upstream's names, and two of our own. Counters and histograms are written where things happen, by the loop but for
// Point; what there is in the loop is asked of it when somebody reads the metrics, see gauges.
type schedulerMetrics struct {
	attempts    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	algorithm   prometheus.Histogram
	endToEnd    *prometheus.HistogramVec
	tries       prometheus.Histogram
	refusals    *prometheus.CounterVec
	preemptions prometheus.Counter
	victims     prometheus.Histogram
	points      *prometheus.HistogramVec
	events      *prometheus.HistogramVec
	reuse       *prometheus.CounterVec
	flushed     prometheus.Counter
	permits     *prometheus.HistogramVec
	evictions   *prometheus.CounterVec
	evicting    *prometheus.HistogramVec
}

func newMetrics(reg *prometheus.Registry, droppedEvents func() uint64, underWay func() int) *schedulerMetrics {
	counter := func(name, help string, by ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, by)
		reg.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, by ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, by)
		reg.MustRegister(h)
		return h
	}
	times, fast, slow := prometheus.ExponentialBuckets, prometheus.ExponentialBuckets(0.00001, 2, 20), prometheus.ExponentialBuckets(0.001, 2, 20)
	reg.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "scheduler_events_dropped_total", Help: "Number of Events that were never written because too many waited.",
		}, func() float64 { return float64(droppedEvents()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "scheduler_goroutines", Help: "Number of requests under way split by the work they do such as binding.",
			ConstLabels: prometheus.Labels{"operation": "binding"},
		}, func() float64 { return float64(underWay()) }))
	return &schedulerMetrics{
		attempts:  counter("scheduler_schedule_attempts_total", "Number of attempts to schedule pods, by the result.", "result", "profile"),
		duration:  histogram("scheduler_scheduling_attempt_duration_seconds", "Scheduling attempt latency in seconds (scheduling algorithm + binding)", fast, "result", "profile"),
		algorithm: histogram("scheduler_scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds", fast).WithLabelValues().(prometheus.Histogram),
		endToEnd: histogram("scheduler_pod_scheduling_sli_duration_seconds",
			"E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue.", slow, "attempts"),
		tries:       histogram("scheduler_pod_scheduling_attempts", "Number of attempts to successfully schedule a pod.", times(1, 2, 5)).WithLabelValues().(prometheus.Histogram),
		refusals:    counter("scheduler_refusals_total", "Number of tries that a plugin ended by refusing nodes, by plugin.", "plugin", "profile"),
		preemptions: counter("scheduler_preemption_attempts_total", "Total preemption attempts in the cluster till now").WithLabelValues(),
		victims:     histogram("scheduler_preemption_victims", "Number of selected preemption victims", times(1, 2, 7)).WithLabelValues().(prometheus.Histogram),
		points: histogram("scheduler_framework_extension_point_duration_seconds", "Latency for running all plugins of a specific extension point.",
			times(0.0001, 2, 16), "extension_point", "status", "profile"),
		events: histogram("scheduler_event_handling_duration_seconds", "Latency of finding the pods that wait for a change, in seconds.", fast, "event"),
		reuse:  counter("scheduler_batch_attempts_total", "Number of decisions by whether what was known of a pod like it was of use.", "profile", "result"),
		flushed: counter("scheduler_pod_scheduled_after_flush_total",
			"Number of pods that were scheduled after nothing but the time they had waited woke them: they were not woken when they should have been.").WithLabelValues(),
		permits:   histogram("scheduler_permit_wait_duration_seconds", "Duration of waiting on permit.", slow, "result"),
		evictions: counter("scheduler_preemption_goroutines_execution_total", "Number of evictions carried out, each of all victims for one pod.", "result"),
		evicting:  histogram("scheduler_preemption_goroutines_duration_seconds", "Duration in seconds of carrying an eviction out.", slow, "result"),
	}
}

func (m *schedulerMetrics) decided(profile string, began time.Time, reused bool) {
	m.algorithm.Observe(time.Since(began).Seconds())
	result := "hint_not_used"
	if reused {
		result = "hint_used"
	}
	m.reuse.WithLabelValues(profile, result).Inc()
}

// Point takes note of how long an extension point took, or what was done for it beside the loop. It is called from many goroutines.
func (m *schedulerMetrics) Point(name, profile string, began time.Time, err error) {
	took := time.Since(began).Seconds()
	status, result := "Success", "success"
	if err != nil {
		status, result = "Error", "error"
	}
	switch name {
	case "Preemption":
		m.evictions.WithLabelValues(result).Inc()
		m.evicting.WithLabelValues(result).Observe(took)
		return
	case "Permit":
		m.permits.WithLabelValues(status).Observe(took)
	}
	m.points.WithLabelValues(name, status, profile).Observe(took)
}

func (m *schedulerMetrics) attempt(result, profile string, began time.Time) {
	m.attempts.WithLabelValues(result, profile).Inc()
	m.duration.WithLabelValues(result, profile).Observe(time.Since(began).Seconds())
}

func (m *schedulerMetrics) bound(a attempt) {
	m.attempt("scheduled", a.profile.Scheduler, a.began)
	label := "15+"
	if a.attempts < 15 {
		label = fmt.Sprint(a.attempts)
	}
	m.endToEnd.WithLabelValues(label).Observe(time.Since(a.since).Seconds())
	m.tries.Observe(float64(a.attempts))
	if a.flushed {
		m.flushed.Inc()
	}
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
