package ingress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"hardway/netproxy/ingress/route"
)

// maxTries bounds how many endpoints a request is offered to.
const maxTries = 3

// handler answers requests from outside.
type handler struct {
	tables    *tables
	endpoints *endpoints
	metrics   *metrics
	log       *zap.Logger
	accessLog bool
	proxy     httputil.ReverseProxy
}

func newHandler(t *tables, e *endpoints) *handler {
	h := &handler{tables: t, endpoints: e, metrics: t.p.metrics, log: t.p.log, accessLog: t.p.cfg.AccessLog}
	h.proxy = httputil.ReverseProxy{Rewrite: rewrite, Transport: h, ErrorHandler: h.failed, ErrorLog: zap.NewStdLog(h.log.Named("proxy"))}
	return h
}

// backendKey is where a request's context has its backend.
type backendKey struct{}

// ServeHTTP sends a request to where its host and path lead.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	out := &counted{ResponseWriter: w}
	host := hostOf(r)
	to := h.tables.now.Load().Find(host, r.URL.Path)
	done := h.metrics.started()
	defer func() {
		failed := recover() // a backend that breaks off its answer ends the handler so
		done(to, out.status(), time.Since(started))
		if h.accessLog {
			h.access(r, host, to, out, time.Since(started))
		}
		if failed != nil {
			panic(failed)
		}
	}()
	switch {
	case r.URL.Path == "" || r.URL.Path[0] != '/': // "OPTIONS *" and CONNECT are about the server itself
		http.Error(out, "the path of a request begins with a slash", http.StatusBadRequest)
	case to == nil:
		http.Error(out, "no Ingress has a rule for this host and path", http.StatusNotFound)
	case to.Redirect && r.TLS == nil:
		http.Redirect(out, r, "https://"+bracketed(host)+r.URL.RequestURI(), http.StatusPermanentRedirect)
	default:
		h.proxy.ServeHTTP(out, r.WithContext(context.WithValue(r.Context(), backendKey{}, to.Backend)))
	}
}

// hostOf is the host that was asked for, without a port.
func hostOf(r *http.Request) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// bracketed is a host as a URL has it.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// rewrite says who asks, in place of what clients say about themselves. Where the request goes, RoundTrip chooses.
func rewrite(p *httputil.ProxyRequest) {
	p.SetXForwarded()
	p.Out.Header.Set("X-Real-Ip", p.Out.Header.Get("X-Forwarded-For"))
}

// RoundTrip sends a request to an endpoint of its backend; to another one, when nobody listens there.
func (h *handler) RoundTrip(r *http.Request) (*http.Response, error) {
	b := r.Context().Value(backendKey{}).(route.Backend)
	var tried []*endpoint
	for {
		at, err := h.endpoints.pick(b, tried)
		if err != nil {
			return nil, err
		}
		tried = append(tried, at)
		out, url := r.WithContext(r.Context()), *r.URL
		url.Scheme, url.Host = at.urlScheme(), at.address
		out.URL = &url
		if out.Body != nil {
			out.Body = io.NopCloser(out.Body) // a try that fails closes it; the server does so in the end
		}
		at.open.Add(1)
		response, err := at.transport.RoundTrip(out)
		if err != nil {
			at.open.Add(-1)
			if len(tried) < maxTries && unreached(err) {
				h.metrics.retries.Inc()
				continue // not a byte of the request has left
			}
			return nil, err
		}
		response.Body = release(response.Body, at)
		return response, nil
	}
}

func unreached(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// failed answers for a backend that did not.
func (h *handler) failed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, context.Canceled): // the client has gone; what it would have been told is for the log and the metrics
		w.WriteHeader(499)
	case errors.Is(err, errNoEndpoints):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err):
		http.Error(w, "the Service does not answer in time", http.StatusGatewayTimeout)
	default:
		h.log.Debug("a backend failed", zap.String("host", r.Host), zap.String("path", r.URL.Path), zap.Error(err))
		http.Error(w, "the Service cannot be reached", http.StatusBadGateway)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (h *handler) access(r *http.Request, host string, to *route.Route, out *counted, took time.Duration) {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	fields := []zap.Field{zap.String("client", client), zap.String("method", r.Method), zap.String("host", host), zap.String("path", r.URL.Path),
		zap.String("protocol", r.Proto), zap.Int("status", out.status()), zap.Int64("bytes", out.bytes), zap.Duration("took", took), zap.Bool("tls", r.TLS != nil)}
	if to != nil {
		fields = append(fields, zap.Stringer("ingress", to.Ingress), zap.Stringer("service", to.Backend.Service))
	}
	h.log.Named("access").Info("request", fields...)
}

// release ends a request's count when its answer is read. An upgraded connection can be written to as well.
func release(body io.ReadCloser, at *endpoint) io.ReadCloser {
	r := &released{ReadCloser: body, release: sync.OnceFunc(func() { at.open.Add(-1) })}
	if rw, ok := body.(io.ReadWriteCloser); ok {
		return &releasedConnection{r, rw}
	}
	return r
}

type released struct {
	io.ReadCloser
	release func()
}

// Close ends the answer.
func (r *released) Close() error {
	r.release()
	return r.ReadCloser.Close()
}

type releasedConnection struct {
	*released
	io.Writer
}

// counted remembers what was answered.
type counted struct {
	http.ResponseWriter
	code  int
	bytes int64
}

func (c *counted) WriteHeader(code int) {
	if code >= 200 || code == http.StatusSwitchingProtocols { // others are followed by the answer
		c.code = code
	}
	c.ResponseWriter.WriteHeader(code)
}

func (c *counted) Write(data []byte) (int, error) {
	n, err := c.ResponseWriter.Write(data)
	c.bytes += int64(n)
	return n, err
}

// Unwrap lets [http.ResponseController] flush and hijack.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *counted) status() int {
	if c.code == 0 {
		return http.StatusOK
	}
	return c.code
}
