package reconcile

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
)

// provider counts work queues under upstream's names, in the registry of the daemon.
type provider struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	latency, duration          *prometheus.HistogramVec
}

func providerFor(reg *prometheus.Registry) *provider {
	name := []string{"name"}
	buckets := prometheus.ExponentialBuckets(1e-8, 10, 10)
	gauge := func(n, help string) *prometheus.GaugeVec {
		return once(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: n, Help: help}, name))
	}
	counter := func(n, help string) *prometheus.CounterVec {
		return once(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: n, Help: help}, name))
	}
	histogram := func(n, help string) *prometheus.HistogramVec {
		return once(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: n, Help: help, Buckets: buckets}, name))
	}
	return &provider{
		depth:      gauge("workqueue_depth", "Current depth of workqueue"),
		unfinished: gauge("workqueue_unfinished_work_seconds", "How many seconds of work is in progress and not counted by work_duration."),
		longest:    gauge("workqueue_longest_running_processor_seconds", "How many seconds the longest running processor has been running."),
		adds:       counter("workqueue_adds_total", "Total number of adds handled by workqueue"),
		retries:    counter("workqueue_retries_total", "Total number of retries handled by workqueue"),
		latency:    histogram("workqueue_queue_duration_seconds", "How long in seconds an item stays in workqueue before being requested."),
		duration:   histogram("workqueue_work_duration_seconds", "How long in seconds processing an item from workqueue takes."),
	}
}

// once registers c, or returns what an earlier loop registered under its name.
func once[C prometheus.Collector](reg *prometheus.Registry, c C) C {
	var already prometheus.AlreadyRegisteredError
	if err := reg.Register(c); errors.As(err, &already) {
		return already.ExistingCollector.(C)
	}
	return c
}

func (p *provider) NewDepthMetric(name string) workqueue.GaugeMetric {
	return p.depth.WithLabelValues(name)
}
func (p *provider) NewAddsMetric(name string) workqueue.CounterMetric {
	return p.adds.WithLabelValues(name)
}
func (p *provider) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return p.latency.WithLabelValues(name)
}
func (p *provider) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return p.duration.WithLabelValues(name)
}
func (p *provider) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return p.unfinished.WithLabelValues(name)
}
func (p *provider) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return p.longest.WithLabelValues(name)
}
func (p *provider) NewRetriesMetric(name string) workqueue.CounterMetric {
	return p.retries.WithLabelValues(name)
}
