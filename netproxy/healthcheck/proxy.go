// Package healthcheck answers load balancers that ask whether this node should get traffic: for the proxy as a whole on one port, and for each
// service with externalTrafficPolicy Local on the health check node port that the API gave it.
package healthcheck

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Proxy knows whether the kernel follows the API. It is safe for concurrent use.
type Proxy struct {
	patience time.Duration
	now      func() time.Time
	asked    *prometheus.CounterVec

	mu      sync.Mutex
	started bool      // the first step was written; guarded by mu
	since   time.Time // the oldest change that is not in the kernel; guarded by mu
	last    time.Time // the last time the kernel had everything; guarded by mu
	leaving bool      // the node is about to go; guarded by mu
}

// NewProxy makes a Proxy that is unhealthy until the first [Proxy.Synced], and while a change waits longer than patience. It counts its answers on reg.
func NewProxy(patience time.Duration, now func() time.Time, reg prometheus.Registerer) *Proxy {
	p := &Proxy{patience: patience, now: now, since: now(), asked: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubeproxy_proxy_healthz_total", Help: "Cumulative proxy healthz HTTP status.",
	}, []string{"code"})}
	reg.MustRegister(p.asked)
	return p
}

// Queued says that there is a change that the kernel does not have yet.
func (p *Proxy) Queued() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		p.since = p.now()
	}
}

// Synced says that the kernel has everything.
func (p *Proxy) Synced() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started, p.since, p.last = true, time.Time{}, p.now()
}

// SetLeaving says whether load balancers should stop sending traffic because the node is about to go.
func (p *Proxy) SetLeaving(leaving bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving = leaving
}

// Healthy reports whether the kernel follows the API.
func (p *Proxy) Healthy() bool {
	healthy, _, _ := p.state()
	return healthy
}

func (p *Proxy) state() (healthy, leaving bool, last time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	healthy = p.started && (p.since.IsZero() || p.now().Sub(p.since) < p.patience)
	if last = p.last; healthy && p.since.IsZero() {
		last = p.now()
	}
	return healthy, p.leaving, last
}

// Healthz is /healthz: 200 while the proxy is healthy and the node stays, else 503. The body is upstream's.
func (p *Proxy) Healthz(w http.ResponseWriter, _ *http.Request) {
	healthy, leaving, last := p.state()
	eligible := !leaving
	p.answer(w, healthy && eligible, last, &eligible)
}

// Livez is /livez: whether the proxy is healthy, whatever becomes of the node.
func (p *Proxy) Livez(w http.ResponseWriter, _ *http.Request) {
	healthy, _, last := p.state()
	p.answer(w, healthy, last, nil)
}

func (p *Proxy) answer(w http.ResponseWriter, ok bool, last time.Time, eligible *bool) {
	code := http.StatusOK
	if !ok {
		code = http.StatusServiceUnavailable
	}
	p.asked.WithLabelValues(strconv.Itoa(code)).Inc()
	body := struct {
		LastUpdated  time.Time `json:"lastUpdated"`
		CurrentTime  time.Time `json:"currentTime"`
		NodeEligible *bool     `json:"nodeEligible,omitempty"`
	}{last, p.now(), eligible}
	write(w, code, body)
}

func write(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone needs no answer
}
