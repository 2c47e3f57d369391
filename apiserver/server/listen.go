package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"

	"hardway/apiserver/authn"
)

// Limits of the HTTP server: what one client can hold without sending anything useful.
const (
	headerTime  = 32 * time.Second
	idleTime    = 90 * time.Second
	headerBytes = 256 << 10
	streams     = 250 // concurrent requests on one HTTP/2 connection
	// drainTime is how long open requests may go on once the server stops.
	drainTime = 2 * time.Second
)

// httpServer is the TLS server in front of the filters.
func httpServer(h http.Handler, cfg *tls.Config, log *zap.Logger) (*http.Server, error) {
	// Handshakes that fail are the clients' trouble: visible at debug level.
	errorLog, err := zap.NewStdLogAt(log.Named("http"), zap.DebugLevel)
	if err != nil {
		return nil, fmt.Errorf("make the HTTP server's log: %w", err)
	}
	return &http.Server{
		Handler: h, TLSConfig: cfg, ErrorLog: errorLog, ConnContext: authn.ConnContext,
		ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: headerBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: streams, MaxReadFrameSize: 256 << 10,
			MaxReceiveBufferPerStream: 256 << 10, MaxReceiveBufferPerConnection: 4 << 20,
			// A connection whose other end has gone is noticed without waiting for TCP.
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second,
		},
	}, nil
}

// stops are what happens around the end of a server.
type stops struct {
	delay    time.Duration // to go on serving after the end of ctx
	unready  func()        // at the end of ctx
	draining func()        // when nothing new is taken any more
}

// serveUntil serves on l until ctx ends, and as long as delay says, then drains: HTTP/2 clients are told to go elsewhere,
// open requests get drainTime.
func serveUntil(ctx context.Context, srv *http.Server, l net.Listener, at stops) error {
	failed := make(chan error, 1)
	go func() { failed <- srv.ServeTLS(l, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	at.unready()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-time.After(at.delay):
	}
	at.draining()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if srv.Shutdown(drain) != nil {
		_ = srv.Close() // what is still open is cut
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// advertised is the address at which others reach the server: the given one, that of the listener if it is one address,
// else the machine's first that is not loopback.
func advertised(given string, l net.Addr) (net.IP, int, error) {
	host, portText, err := net.SplitHostPort(l.String())
	if err != nil {
		return nil, 0, fmt.Errorf("read the listener's address: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, 0, fmt.Errorf("read the listener's port: %w", err)
	}
	for _, text := range []string{given, host} {
		if ip := net.ParseIP(text); ip != nil && !ip.IsUnspecified() {
			return ip, port, nil
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, 0, fmt.Errorf("find an address to advertise: %w", err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP, port, nil
		}
	}
	return nil, 0, errors.New("this machine has no address to advertise: give --advertise-address")
}

// writeAddress writes an address into a file, which appears complete or not at all.
func writeAddress(path, address string) error {
	if path == "" {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".address-*")
	if err != nil {
		return fmt.Errorf("write --address-file: %w", err)
	}
	_, err = tmp.WriteString(address)
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name()) //nolint:errcheck // the first error is the one that matters
		return fmt.Errorf("write --address-file: %w", err)
	}
	return nil
}
