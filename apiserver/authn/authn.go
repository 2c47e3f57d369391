// Package authn finds out who sends a request.
//
// The proofs are looked at in this order: the headers of an authenticating proxy that shows its own certificate, a client
// certificate, a bearer token, a password. One that is sent and not accepted is an error, never anonymous. Without any,
// the request is anonymous, where that is let through. Certificates are verified here and not in the handshake, so that a
// bad one gets a Status, and a CA can be replaced while connections live; a connection remembers its user.
package authn

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"hardway/apiserver/request"
)

// ErrUnauthorized is returned for a request whose proof is missing or not accepted.
var ErrUnauthorized = errors.New("Unauthorized") //nolint:staticcheck // upstream's message, seen by users

// ErrNotMine is returned by a Token that knows nothing of a token, so that the next one is asked.
var ErrNotMine = errors.New("the token is of another kind")

// Identity is who a token stands for.
type Identity struct {
	User *request.UserInfo
	// Audiences are those among the wanted ones that the token is for; empty: the token has none.
	Audiences []string
}

// Token checks one kind of bearer token. Empty audiences mean those of the API server. ErrNotMine means that it is of
// another kind; any other error, that it is not accepted.
type Token interface {
	Authenticate(ctx context.Context, token string, audiences []string) (*Identity, error)
}

// Anonymous says where a request without a proof is let through.
type Anonymous int

// The choices. AnonymousHealth is the default: health, version and nothing else.
const (
	AnonymousHealth Anonymous = iota
	AnonymousNever
	AnonymousAlways
)

// Options are the proofs that are accepted.
type Options struct {
	// Roots are the CAs of client certificates, nil for none.
	Roots func() *x509.CertPool
	// Proxy, if any, may name users in headers.
	Proxy *Proxy
	// Tokens are asked in order.
	Tokens []Token
	// Basic, if any, knows passwords.
	Basic *PasswordFile
	// Anonymous says what may be asked without a proof, and Public what AnonymousHealth means; nil: health and version.
	Anonymous Anonymous
	Public    func(path string) bool
	// Audiences are the names of this API server, for tokens that have none.
	Audiences []string
	// Now is the clock, nil for the real one.
	Now func() time.Time
}

// Authenticator finds out who asks. It is safe for concurrent use.
type Authenticator struct{ o Options }

// New makes an Authenticator.
func New(o Options) *Authenticator {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Public == nil {
		o.Public = Public
	}
	return &Authenticator{o}
}

// Authenticate returns who sends the request. Proofs are taken out of it, so that nothing behind it sees or passes on a
// password or token. All errors are ErrUnauthorized; the reason is wrapped with it, for the log.
func (a *Authenticator) Authenticate(r *http.Request) (*request.UserInfo, error) {
	if a.o.Proxy != nil {
		if user := a.o.Proxy.user(r, a.o.Now()); user != nil {
			return user, nil
		}
	}
	header := r.Header.Get("Authorization")
	if len(r.Header["Authorization"]) > 1 {
		return nil, refused(errors.New("more than one Authorization header"))
	}
	if cert := presented(r); cert != nil && a.o.Roots != nil {
		user, err := a.certificate(r)
		if err == nil {
			r.Header.Del("Authorization")
			return user, nil
		}
		if header == "" {
			return nil, refused(err)
		}
	}
	if header == "" {
		header = webSocketToken(r)
	}
	kind, value, _ := strings.Cut(strings.TrimSpace(header), " ")
	value = strings.TrimSpace(value)
	switch {
	case header == "" && (a.o.Anonymous == AnonymousAlways || a.o.Anonymous == AnonymousHealth && a.o.Public(r.URL.Path)):
		return &request.UserInfo{Name: request.Anonymous, Groups: []string{request.Unauthenticated}}, nil
	case strings.EqualFold(kind, "bearer") && value != "":
		id, err := a.Token(r.Context(), value, nil)
		if err != nil {
			return nil, refused(err)
		}
		r.Header.Del("Authorization")
		return id.User, nil
	case strings.EqualFold(kind, "basic") && a.o.Basic != nil:
		name, password, ok := r.BasicAuth()
		if user := a.o.Basic.User(name, password); ok && user != nil {
			r.Header.Del("Authorization")
			return user, nil
		}
		return nil, refused(errors.New("unknown name or wrong password"))
	}
	return nil, ErrUnauthorized
}

func refused(err error) error { return fmt.Errorf("%w: %w", ErrUnauthorized, err) }

// Token checks a bearer token for audiences; none means those of the API server.
func (a *Authenticator) Token(ctx context.Context, token string, audiences []string) (*Identity, error) {
	for _, t := range a.o.Tokens {
		id, err := t.Authenticate(ctx, token, audiences)
		if errors.Is(err, ErrNotMine) {
			continue
		}
		return id, err
	}
	return nil, errors.New("unknown token")
}

// Audiences are the names of this API server.
func (a *Authenticator) Audiences() []string { return a.o.Audiences }

// connKey finds the connection's record in the context of its requests.
type connKey struct{}

// conn remembers the user of one TLS connection, so that its requests need not verify the certificate again.
type conn struct {
	mu    sync.Mutex
	cert  *x509.Certificate // guarded by mu; what user was made from
	roots *x509.CertPool    // guarded by mu; what cert was verified against
	user  *request.UserInfo // guarded by mu
	until time.Time         // guarded by mu; when the certificate expires
}

// ConnContext is for http.Server.ConnContext: it gives each connection its record.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, &conn{})
}

// presented returns the client's certificate, not verified.
func presented(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// certificate returns the user of the connection's certificate.
func (a *Authenticator) certificate(r *http.Request) (*request.UserInfo, error) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	if c == nil {
		c = &conn{}
	}
	now, cert, roots := a.o.Now(), presented(r), a.o.Roots()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != cert || c.roots != roots {
		if err := verify(r.TLS.PeerCertificates, roots, now); err != nil {
			return nil, err
		}
		c.cert, c.roots, c.user, c.until = cert, roots, FromCertificate(cert), cert.NotAfter
	}
	switch {
	case now.After(c.until):
		return nil, errors.New("the client certificate has expired")
	case c.user == nil:
		return nil, errors.New("the client certificate has no common name")
	}
	return c.user, nil
}

// verify checks a chain against the CAs: signatures, dates, and that it is meant for clients.
func verify(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// uidOID is where a certificate may carry the user's uid, as upstream reads it.
var uidOID = []int{1, 3, 6, 1, 4, 1, 57683, 2}

// FromCertificate names the user of a certificate: CN the name, every O a group, and system:authenticated. A certificate
// without a common name names nobody: nil.
func FromCertificate(cert *x509.Certificate) *request.UserInfo {
	if cert.Subject.CommonName == "" {
		return nil
	}
	groups := make([]string, 0, len(cert.Subject.Organization)+1)
	groups = append(groups, cert.Subject.Organization...)
	groups = append(groups, request.Authenticated)
	user := &request.UserInfo{Name: cert.Subject.CommonName, Groups: groups, Extra: map[string][]string{
		"authentication.kubernetes.io/credential-id": {"X509SHA256=" + fingerprint(cert)},
	}}
	for _, attribute := range cert.Subject.Names {
		if attribute.Type.Equal(uidOID) {
			user.UID, _ = attribute.Value.(string)
		}
	}
	return user
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
