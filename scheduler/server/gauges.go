package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// patience is how long who reads the metrics waits for the loop.
const patience = 5 * time.Second

// gauges are the metrics of what there is in the loop. The loop is asked between two decisions, so they cost nothing while nobody reads them.
type gauges struct{ loop *loop }

var (
	pendingPods = prometheus.NewDesc("scheduler_pending_pods", "Number of pending pods, by the queue type.", []string{"queue"}, nil)
	arrivals    = prometheus.NewDesc("scheduler_queue_incoming_pods_total", "Number of pods added to scheduling queues by event and queue type.", []string{"queue", "event"}, nil)
	waiting     = prometheus.NewDesc("scheduler_unschedulable_pods", "The number of unschedulable pods broken down by plugin name.", []string{"plugin", "profile"}, nil)
	cacheSize   = prometheus.NewDesc("scheduler_cache_size", "Number of nodes and pods in the scheduler cache.", []string{"type"}, nil)
)

// Describe implements prometheus.Collector.
func (gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{pendingPods, arrivals, waiting, cacheSize} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(to chan<- prometheus.Metric) {
	answer := make(chan []prometheus.Metric, 1)
	if !g.loop.mail.post(func(time.Time) { answer <- g.loop.state() }) {
		return // it has ended
	}
	select {
	case list := <-answer:
		for _, m := range list {
			to <- m
		}
	case <-time.After(patience): // an extender holds the loop up
	}
}

// state is what there is now.
func (l *loop) state() (list []prometheus.Metric) {
	add := func(d *prometheus.Desc, kind prometheus.ValueType, n int, labels ...string) {
		list = append(list, prometheus.MustNewConstMetric(d, kind, float64(n), labels...))
	}
	active, backoff, unschedulable, gated := l.queue.Counts()
	add(pendingPods, prometheus.GaugeValue, active, "active")
	add(pendingPods, prometheus.GaugeValue, backoff, "backoff")
	add(pendingPods, prometheus.GaugeValue, unschedulable, "unschedulable")
	add(pendingPods, prometheus.GaugeValue, gated, "gated")
	for a, n := range l.queue.Arrivals {
		add(arrivals, prometheus.CounterValue, n, a.Queue, a.Event)
	}
	l.queue.Refused(func(profile, plugin string, pods int) { add(waiting, prometheus.GaugeValue, pods, plugin, profile) })
	nodes, pods, assumed := l.cluster.Size()
	add(cacheSize, prometheus.GaugeValue, nodes, "nodes")
	add(cacheSize, prometheus.GaugeValue, pods, "pods")
	add(cacheSize, prometheus.GaugeValue, assumed, "assumed_pods")
	return list
}
