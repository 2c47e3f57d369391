package fairness

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what the gate does, under upstream's names.
type Metrics struct {
	gate                      *Gate
	dispatched, rejected      *prometheus.CounterVec
	nominal, running, waiting *prometheus.Desc
}

// NewMetrics registers the metrics of a gate.
func NewMetrics(reg prometheus.Registerer, g *Gate) *Metrics {
	const prefix = "apiserver_flowcontrol_"
	m := &Metrics{
		gate: g,
		dispatched: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "dispatched_requests_total",
			Help: "Number of requests executed by API Priority and Fairness subsystem"}, []string{"priority_level", "flow_schema"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "rejected_requests_total",
			Help: "Number of requests rejected by API Priority and Fairness subsystem"}, []string{"priority_level", "flow_schema", "reason"}),
		nominal: prometheus.NewDesc(prefix+"nominal_limit_seats", "Nominal number of execution seats configured for each priority level", []string{"priority_level"}, nil),
		running: prometheus.NewDesc(prefix+"current_executing_seats", "Concurrency (number of seats) occupied by the currently executing requests in the API Priority and Fairness subsystem", []string{"priority_level"}, nil),
		waiting: prometheus.NewDesc(prefix+"current_inqueue_requests", "Number of requests currently pending in queues of the API Priority and Fairness subsystem", []string{"priority_level"}, nil),
	}
	reg.MustRegister(m, m.dispatched, m.rejected)
	return m
}

// Entered counts a request that found a seat, or none, for a reason.
func (m *Metrics) Entered(at Place, why string) {
	if why == "" {
		m.dispatched.WithLabelValues(at.Level, at.Schema).Inc()
		return
	}
	m.rejected.WithLabelValues(at.Level, at.Schema, why).Inc()
}

// Describe is part of prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.nominal
	ch <- m.running
	ch <- m.waiting
}

// Collect is part of prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, l := range m.gate.Levels() {
		ch <- prometheus.MustNewConstMetric(m.nominal, prometheus.GaugeValue, float64(l.Seats), l.Name)
		ch <- prometheus.MustNewConstMetric(m.running, prometheus.GaugeValue, float64(l.Running), l.Name)
		ch <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(l.Waiting), l.Name)
	}
}
