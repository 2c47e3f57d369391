package ingress

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hardway/netproxy/ingress/route"
	"hardway/netproxy/state"
)

// metrics count requests by Ingress: hosts and paths are the clients' to invent, Ingresses are not.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	retries  prometheus.Counter
	served   prometheus.Gauge
	problems prometheus.Gauge
	expiry   *prometheus.GaugeVec

	known map[state.Name]bool // Ingresses that were served; of built alone
}

func newMetrics(reg prometheus.Registerer) *metrics {
	ingress := []string{"namespace", "ingress"}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hardway_ingress_requests_total",
			Help: "Requests by the Ingress that they matched, and by status"}, append(ingress, "code")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "hardway_ingress_request_duration_seconds",
			Help: "Time from a request's header to the end of its answer", Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12)}, ingress),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hardway_ingress_requests_in_flight", Help: "Requests that are being answered"}),
		retries:  prometheus.NewCounter(prometheus.CounterOpts{Name: "hardway_ingress_retries_total", Help: "Requests given to another endpoint, since nobody listened at the first"}),
		served:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "hardway_ingress_served", Help: "Ingresses that are served"}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hardway_ingress_problems", Help: "Rules and certificates that cannot be served as they are written"}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "hardway_ingress_certificate_expiry_timestamp_seconds",
			Help: "When the certificate of a Secret expires"}, []string{"namespace", "secret"}),
	}
	reg.MustRegister(m.requests, m.duration, m.inFlight, m.retries, m.served, m.problems, m.expiry)
	return m
}

// started counts a request; what it returns ends it.
func (m *metrics) started() func(to *route.Route, status int, took time.Duration) {
	m.inFlight.Inc()
	return func(to *route.Route, status int, took time.Duration) {
		m.inFlight.Dec()
		namespace, name := "", ""
		if to != nil {
			namespace, name = to.Ingress.Namespace, to.Ingress.Name
		}
		m.requests.WithLabelValues(namespace, name, strconv.Itoa(status)).Inc()
		m.duration.WithLabelValues(namespace, name).Observe(took.Seconds())
	}
}

// built takes the figures of a new table.
func (m *metrics) built(t *table) {
	m.served.Set(float64(len(t.Served)))
	known := map[state.Name]bool{}
	for _, in := range t.Served {
		known[state.Name{Namespace: in.Namespace, Name: in.Name}] = true
	}
	for name := range m.known {
		if !known[name] { // nobody counts for it any more
			gone := prometheus.Labels{"namespace": name.Namespace, "ingress": name.Name}
			m.requests.DeletePartialMatch(gone)
			m.duration.DeletePartialMatch(gone)
		}
	}
	m.known = known
	problems := len(t.Problems)
	m.expiry.Reset()
	for name, c := range t.certificates {
		if c.problem != "" {
			problems++
		}
		if leaf := c.leaf(); leaf != nil {
			m.expiry.WithLabelValues(name.Namespace, name.Name).Set(float64(leaf.NotAfter.Unix()))
		}
	}
	m.problems.Set(float64(problems))
}
