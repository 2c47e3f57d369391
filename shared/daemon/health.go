package daemon

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Health answers /healthz, /livez and /readyz as upstream's daemons do: "ok" or 500 with the checks that failed,
// every check with ?verbose, one check below its name, some left out with ?exclude=.
type Health struct {
	mu    sync.RWMutex
	live  []check // guarded by mu
	ready []check // guarded by mu
}

type check struct {
	name string
	test func(context.Context) error
}

// NewHealth returns a Health with the check "ping", which never fails.
func NewHealth() *Health {
	ping := check{"ping", func(context.Context) error { return nil }}
	return &Health{live: []check{ping}, ready: []check{ping}}
}

// Live adds a check of /livez, /healthz and /readyz: its failure means that a restart is needed.
func (h *Health) Live(name string, test func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live = append(h.live, check{name, test})
	h.ready = append(h.ready, check{name, test})
}

// Ready adds a check of /readyz only.
func (h *Health) Ready(name string, test func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = append(h.ready, check{name, test})
}

// Check returns the first readiness check that fails.
func (h *Health) Check(ctx context.Context) error {
	for _, c := range h.checks("readyz") {
		if err := c.test(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

func (h *Health) checks(endpoint string) []check {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if endpoint == "readyz" {
		return slices.Clone(h.ready)
	}
	return slices.Clone(h.live)
}

// ServeHTTP implements http.Handler.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	endpoint, name, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	checks := h.checks(endpoint)
	if name != "" {
		i := slices.IndexFunc(checks, func(c check) bool { return c.name == name })
		if i < 0 {
			http.NotFound(w, r)
			return
		}
		checks = checks[i : i+1]
	}
	excluded := r.URL.Query()["exclude"]
	var report strings.Builder
	failed := false
	for _, c := range checks {
		if slices.Contains(excluded, c.name) {
			fmt.Fprintf(&report, "[+]%s excluded: ok\n", c.name)
			continue
		}
		if err := c.test(r.Context()); err != nil {
			failed = true
			fmt.Fprintf(&report, "[-]%s failed: %v\n", c.name, err)
			continue
		}
		fmt.Fprintf(&report, "[+]%s ok\n", c.name)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case failed:
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", report.String(), endpoint)
	case verbose:
		fmt.Fprintf(w, "%s%s check passed\n", report.String(), endpoint)
	default:
		fmt.Fprint(w, "ok")
	}
}
