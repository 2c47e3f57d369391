// Package authn finds out who sends a request.
//
// The only proof known so far is a client certificate, which the TLS handshake has already checked against the CA: its
// common name is the user, its organizations are the groups. Without one the request is anonymous, and Allowed says
// where that is enough. Bearer tokens come later; one that is sent is refused rather than overlooked.
package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"hardway/apiserver/request"
)

// ErrUnauthorized is returned for a request whose proof is missing or not accepted.
var ErrUnauthorized = errors.New("Unauthorized") //nolint:staticcheck // upstream's message, seen by users

// connKey finds the connection's record in the context of its requests.
type connKey struct{}

// conn remembers the user of one TLS connection, so that its requests need not read the certificate again.
type conn struct {
	mu    sync.Mutex
	cert  *x509.Certificate // guarded by mu; what user was made from
	user  *request.UserInfo // guarded by mu
	until time.Time         // guarded by mu; when the certificate expires
}

// ConnContext is for http.Server.ConnContext: it gives each connection its record.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, &conn{})
}

// Authenticate returns who sends the request. It returns ErrUnauthorized for an expired certificate, for a token, and
// for an anonymous request to anything but the public paths.
func Authenticate(r *http.Request, now time.Time) (*request.UserInfo, error) {
	if cert := verified(r.TLS); cert != nil {
		c, _ := r.Context().Value(connKey{}).(*conn)
		if c == nil {
			c = &conn{}
		}
		return c.userOf(cert, now)
	}
	if r.Header.Get("Authorization") == "" && Public(r.URL.Path) {
		return &request.UserInfo{Name: request.Anonymous, Groups: []string{request.Unauthenticated}}, nil
	}
	return nil, ErrUnauthorized
}

// verified returns the client's certificate if the handshake has checked it.
func verified(state *tls.ConnectionState) *x509.Certificate {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return nil
	}
	return state.PeerCertificates[0]
}

func (c *conn) userOf(cert *x509.Certificate, now time.Time) (*request.UserInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != cert {
		c.cert, c.user, c.until = cert, FromCertificate(cert), cert.NotAfter
	}
	if now.After(c.until) || c.user == nil {
		return nil, ErrUnauthorized
	}
	return c.user, nil
}

// FromCertificate names the user of a certificate: CN the name, every O a group, and system:authenticated. A
// certificate without a common name names nobody: nil.
func FromCertificate(cert *x509.Certificate) *request.UserInfo {
	if cert.Subject.CommonName == "" {
		return nil
	}
	groups := make([]string, 0, len(cert.Subject.Organization)+1)
	groups = append(groups, cert.Subject.Organization...)
	groups = append(groups, request.Authenticated)
	return &request.UserInfo{Name: cert.Subject.CommonName, Groups: groups}
}

// Public says whether a path may be asked for anonymously: health and version, nothing else.
func Public(path string) bool {
	for _, prefix := range []string{"/healthz", "/livez", "/readyz"} {
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return true
		}
	}
	return path == "/version" || path == "/version/"
}
