package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// How long connections may take and stay.
const (
	dialTimeout = 10 * time.Second
	keepAlive   = 15 * time.Second // half-open connections are found within a minute
	idleTimeout = 90 * time.Second
	maxIdle     = 8 // idle connections to one host; further ones are closed
)

var errNotAllowed = errors.New("address not allowed")

// backend is one way to reach servers: whom to trust and where to go.
type backend struct {
	tls       func(serverName string) *tls.Config
	allowed   func(netip.Addr) error
	transport *http.Transport
}

func newBackend(config func(serverName string) *tls.Config, allowed func(netip.Addr) error) *backend {
	b := &backend{tls: config, allowed: allowed}
	b.transport = &http.Transport{
		DialContext:         b.dial,
		DialTLSContext:      b.dialTLS,
		IdleConnTimeout:     idleTimeout,
		MaxIdleConnsPerHost: maxIdle,
		DisableCompression:  true, // bodies are passed on as they are
	}
	return b
}

// anywhere allows every address.
func anywhere(netip.Addr) error { return nil }

// routable allows addresses that belong to one machine among others: not this machine's own or the link's.
func routable(a netip.Addr) error {
	if a = a.Unmap(); !a.IsGlobalUnicast() || a.IsLinkLocalUnicast() || a.IsLoopback() {
		return errNotAllowed
	}
	return nil
}

func (b *backend) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return b.allowed(at.Addr())
	}}
	return d.DialContext(ctx, network, address)
}

func (b *backend) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := b.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		conn.Close()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	secure := tls.Client(conn, b.tls(host))
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// connect opens a connection of its own to the server of a URL.
func (b *backend) connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	address := u.Host
	if u.Port() == "" {
		port := "80"
		if u.Scheme == "https" {
			port = "443"
		}
		address = net.JoinHostPort(u.Hostname(), port)
	}
	if u.Scheme == "https" {
		return b.dialTLS(ctx, "tcp", address)
	}
	return b.dial(ctx, "tcp", address)
}

// unreachable is the answer when a backend cannot be spoken to.
func unreachable(err error) error {
	if errors.Is(err, errNotAllowed) {
		return apierrors.NewBadRequest(errNotAllowed.Error())
	}
	return apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", err))
}

func noAddress(n *corev1.Node) error {
	return apierrors.NewServiceUnavailable(fmt.Sprintf("node %s has no address yet: its agent has not reported one", n.Name))
}
