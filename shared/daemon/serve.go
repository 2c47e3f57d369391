package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// drainTime is how long open requests may go on after the end of a server's context.
const drainTime = 3 * time.Second

// Listen opens a TCP listener, such as on "127.0.0.1:10259".
func Listen(addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// Serve answers requests on l, over TLS when cfg is given, until ctx ends. Open requests then have three seconds.
func Serve(ctx context.Context, l net.Listener, cfg *tls.Config, h http.Handler, log *zap.Logger) error {
	srv := &http.Server{
		Handler: h, TLSConfig: cfg,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: zap.NewStdLog(log.Named("http")),
	}
	failed := make(chan error, 1)
	go func() {
		if cfg != nil {
			failed <- srv.ServeTLS(l, "", "")
		} else {
			failed <- srv.Serve(l)
		}
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		srv.Close() //nolint:errcheck // what is still open is cut
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// DebugMux serves health to everybody, and /metrics and /debug/pprof to those who present a client certificate that
// the listener's CA signed. On a listener without TLS these are served to connections from this machine only.
func DebugMux(h *Health, reg *prometheus.Registry) *http.ServeMux {
	return GuardedDebugMux(h, reg, Trusted)
}

// GuardedDebugMux is DebugMux with another guard in front of /metrics and /debug/pprof.
func GuardedDebugMux(h *Health, reg *prometheus.Registry, guard func(http.Handler) http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		mux.Handle(path, h)
		mux.Handle(path+"/", h)
	}
	mux.Handle("/metrics", guard(promhttp.HandlerFor(reg, promhttp.HandlerOpts{})))
	for path, handler := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		mux.Handle(path, guard(handler))
	}
	return mux
}

// Trusted lets requests through that carry a verified client certificate, or that come over plain HTTP from a
// loopback address; others get 401.
func Trusted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ok := false
		if r.TLS != nil {
			ok = len(r.TLS.VerifiedChains) > 0
		} else if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
			ok = net.ParseIP(host).IsLoopback()
		}
		if !ok {
			http.Error(w, "a client certificate of this cluster is needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
