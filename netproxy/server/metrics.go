package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the proxy counts, under upstream's names.
type metrics struct {
	sync        prometheus.Histogram
	partial     prometheus.Histogram
	full        prometheus.Histogram
	network     prometheus.Histogram
	last        prometheus.Gauge
	queued      prometheus.Gauge
	failures    prometheus.Counter
	services    prometheus.Counter
	repairs     prometheus.Counter
	flows       prometheus.Counter
	flowsTook   prometheus.Histogram
	lookedAfter prometheus.Gauge
	isolated    prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	steps := prometheus.ExponentialBuckets(0.00025, 2, 18)
	m := &metrics{
		sync:    histogram("kubeproxy_sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", steps),
		partial: histogram("kubeproxy_sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs", steps),
		full:    histogram("kubeproxy_sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", steps),
		network: histogram("kubeproxy_network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds",
			append([]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5}, append(prometheus.LinearBuckets(1, 1, 59), 60, 120, 300)...)),
		last:      gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced"),
		queued:    gauge("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued"),
		failures:  counter("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "Cumulative proxy nftables sync failures"),
		services:  counter("kubeproxy_sync_proxy_rules_service_changes_total", "Cumulative proxy rules Service changes, those of endpoints included"),
		repairs:   counter("hardway_netproxy_repairs_total", "Full looks at the tables that found something changed by somebody else"),
		flows:     counter("kubeproxy_conntrack_reconciler_deleted_entries_total", "Cumulative conntrack flows deleted by conntrack reconciler"),
		flowsTook: histogram("kubeproxy_conntrack_reconciler_sync_duration_seconds", "ReconcileConntrackFlowsLatency latency in seconds", steps),

		lookedAfter: gauge("hardway_netproxy_services", "Services that the proxy serves"),
		isolated:    gauge("hardway_netproxy_isolated_addresses", "Addresses of pods of this node that network policies isolate"),
	}
	reg.MustRegister(m.sync, m.partial, m.full, m.network, m.last, m.queued, m.failures, m.services, m.repairs, m.flows, m.flowsTook, m.lookedAfter, m.isolated)
	return m
}

// wrote counts one transaction.
func (m *metrics) wrote(kind prometheus.Histogram, started time.Time) {
	took := time.Since(started).Seconds()
	m.sync.Observe(took)
	kind.Observe(took)
	m.last.SetToCurrentTime()
}
