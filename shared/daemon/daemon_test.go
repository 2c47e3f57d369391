package daemon

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
)

func TestGroupStopsInReverseOrder(t *testing.T) {
	var mu sync.Mutex
	var order []string
	part := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return ctx.Err()
		}
	}
	var g Group
	for _, name := range []string{"store", "cache", "listener"} {
		g.Add(name, part(name))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Errorf("a clean stop is no failure, got %v", err)
	}
	if want := []string{"listener", "cache", "store"}; !slices.Equal(order, want) {
		t.Errorf("stopped in order %v, want %v", order, want)
	}
}

func TestGroupReportsTheFirstFailure(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		result error
		want   string
	}{
		"a part fails":          {broken, "bad: broken"},
		"a part ends by itself": {nil, "bad ended unexpectedly"},
	} {
		t.Run(name, func(t *testing.T) {
			var g Group
			g.Add("good", func(ctx context.Context) error { <-ctx.Done(); return nil })
			g.Add("bad", func(context.Context) error { return test.result })
			if err := g.Run(t.Context()); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	h := NewHealth()
	var etcd error
	h.Live("etcd", func(context.Context) error { return etcd })
	h.Ready("caches", func(context.Context) error { return errors.New("still filling") })
	for _, test := range []struct {
		name, path string
		etcd       error
		code       int
		body       string
	}{
		{"alive", "/livez", nil, 200, "ok"},
		{"alive in detail", "/livez?verbose", nil, 200, "[+]ping ok\n[+]etcd ok\nlivez check passed\n"},
		{"dead", "/healthz", errors.New("gone"), 500, "[+]ping ok\n[-]etcd failed: gone\nhealthz check failed\n"},
		{"not ready", "/readyz", nil, 500, "[+]ping ok\n[+]etcd ok\n[-]caches failed: still filling\nreadyz check failed\n"},
		{"ready but for one", "/readyz?exclude=caches", nil, 200, "ok"},
		{"one check", "/readyz/etcd", nil, 200, "ok"},
		{"no such check", "/readyz/nothing", nil, 404, "404 page not found\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			etcd = test.etcd
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.path, nil))
			if w.Code != test.code || w.Body.String() != test.body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, test.code, test.body)
			}
		})
	}
}

func TestProgramExitCodes(t *testing.T) {
	program := func(run func() error, invalid error) Program {
		return Program{
			Name:     "test",
			Flags:    func(fs *pflag.FlagSet) { fs.Int("port", 1, ""); Ignored(fs, "network-plugin") },
			Validate: func() error { return invalid },
			Run:      func(context.Context, *zap.Logger) error { return run() },
			Commands: map[string]Program{"sub": {Run: func(context.Context, *zap.Logger) error { return errors.New("no") }}},
		}
	}
	good := func() error { return nil }
	for name, test := range map[string]struct {
		args    string
		run     func() error
		invalid error
		want    int
	}{
		"clean end":              {"--port 2", good, nil, 0},
		"failure":                {"", func() error { return errors.New("disk on fire") }, nil, 1},
		"stopped by its context": {"", func() error { return context.Canceled }, nil, 0},
		"unknown flag":           {"--prot 2", good, nil, 2},
		"flag of a wrong type":   {"--port x", good, nil, 2},
		"invalid configuration":  {"", good, errors.New("port is taken"), 2},
		"bad file found later":   {"", func() error { return &ConfigError{errors.New("bad file")} }, nil, 2},
		"unexpected argument":    {"something", good, nil, 2},
		"flag without meaning":   {"--network-plugin=cni", good, nil, 0},
		"the same without value": {"--network-plugin", good, nil, 0},
		"subcommand":             {"sub", good, nil, 1},
		"version":                {"--version", func() error { return errors.New("must not run") }, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := program(test.run, test.invalid).main(t.Context(), strings.Fields(test.args)); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}
}

func TestDebugPagesNeedACertificate(t *testing.T) {
	ok := Trusted(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for name, test := range map[string]struct {
		remote string
		want   int
	}{
		"plain HTTP from this machine": {"127.0.0.1:4000", 204},
		"plain HTTP from elsewhere":    {"192.0.2.7:4000", 401},
		"an address that is none":      {"@", 401},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
			r.RemoteAddr = test.remote
			w := httptest.NewRecorder()
			ok.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("got %d, want %d", w.Code, test.want)
			}
		})
	}
	tls := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com/metrics", nil) // TLS, no certificate
	w := httptest.NewRecorder()
	if ok.ServeHTTP(w, tls); w.Code != http.StatusUnauthorized {
		t.Errorf("TLS without a certificate: got %d, want 401", w.Code)
	}
}
