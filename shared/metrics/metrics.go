// Package metrics makes the Prometheus registry of a daemon and feeds it what client-go and the work queues count,
// under upstream's names.
package metrics

import (
	"context"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	clientmetrics "k8s.io/client-go/tools/metrics"
)

// requests are those of this process. client-go has one place only to report to, and reads it without a lock, so it is
// set before anything runs.
var requests = registered()

func registered() *client {
	c := newClient()
	clientmetrics.Register(clientmetrics.RegisterOpts{RequestLatency: c, RequestResult: c})
	return c
}

// New returns a registry with the process and Go collectors and the rest_client_* metrics of this process.
func New() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(requests.total, requests.latency)
	return reg
}

// client counts the requests that this process sends to the apiserver.
type client struct {
	total   *prometheus.CounterVec
	latency *prometheus.HistogramVec
}

func newClient() *client {
	return &client{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rest_client_requests_total",
			Help: "Number of HTTP requests, partitioned by status code, method, and host.",
		}, []string{"code", "method", "host"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rest_client_request_duration_seconds",
			Help:    "Request latency in seconds. Broken down by verb, and host.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0},
		}, []string{"verb", "host"}),
	}
}

// Observe implements client-go's LatencyMetric.
func (c *client) Observe(_ context.Context, verb string, u url.URL, latency time.Duration) {
	c.latency.WithLabelValues(verb, u.Host).Observe(latency.Seconds())
}

// Increment implements client-go's ResultMetric.
func (c *client) Increment(_ context.Context, code, method, host string) {
	c.total.WithLabelValues(code, method, host).Inc()
}
