package healthcheck

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"hardway/netproxy/plan"
	"hardway/netproxy/state"
)

func TestProxy(t *testing.T) {
	now := time.Unix(1000, 0)
	p := NewProxy(time.Minute, func() time.Time { return now }, prometheus.NewRegistry())
	check := func(when string, healthz, livez int) {
		t.Helper()
		for path, want := range map[string]int{"healthz": healthz, "livez": livez} {
			h := p.Livez
			if path == "healthz" {
				h = p.Healthz
			}
			w := httptest.NewRecorder()
			h(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+path, nil))
			if w.Code != want {
				t.Errorf("%s: %s is %d, want %d: %s", when, path, w.Code, want, w.Body)
			}
		}
	}
	check("before the first step", 503, 503)
	p.Synced()
	check("in step", 200, 200)
	now = now.Add(time.Hour)
	check("after an hour without changes", 200, 200)
	p.Queued()
	now = now.Add(59 * time.Second)
	p.Queued()
	check("a change waits", 200, 200)
	now = now.Add(2 * time.Second)
	check("a change waits for long", 503, 503)
	p.Synced()
	p.SetLeaving(true)
	check("the node is about to go", 503, 200)
}

func TestNodePorts(t *testing.T) {
	proxy := NewProxy(time.Minute, time.Now, prometheus.NewRegistry())
	proxy.Synced()
	n := NewNodePorts(proxy, zap.NewNop())
	defer n.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	health := plan.Health{Service: state.Name{Namespace: "default", Name: "web"}, Port: port, Local: 2}
	ask := func() (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = r.Body.Close() }()
		body, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(body)
	}
	n.Set(t.Context(), []plan.Health{health})
	code, body := ask()
	var got struct{ LocalEndpoints int }
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || got.LocalEndpoints != 2 {
		t.Errorf("with endpoints: %d %s", code, body)
	}
	health.Local = 0
	n.Set(t.Context(), []plan.Health{health})
	if code, body := ask(); code != 503 {
		t.Errorf("without endpoints: %d %s", code, body)
	}
	n.Set(t.Context(), nil)
	if code, _ := ask(); code != 0 {
		t.Errorf("the port of a service that is gone still answers %d", code)
	}
}
