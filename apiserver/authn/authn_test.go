package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"hardway/apiserver/request"
)

// authority signs certificates for these tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, now time.Time) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	a.cert = a.sign(t, a.cert, a.cert, &key.PublicKey)
	return a
}

func (a *authority) sign(t *testing.T, template, parent *x509.Certificate, key *ecdsa.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue makes a client's certificate, or with other usages one that is none.
func (a *authority) issue(t *testing.T, name string, from, until time.Time, usage x509.ExtKeyUsage, groups ...string) *x509.Certificate {
	t.Helper()
	return a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, Organization: groups}, NotBefore: from, NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}, a.cert, &a.key.PublicKey)
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func TestAuthenticate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ca, other := newAuthority(t, now), newAuthority(t, now)
	early := now.Add(-time.Hour)
	cert := func(cn string, until time.Time, groups ...string) *x509.Certificate {
		return ca.issue(t, cn, early, until, x509.ExtKeyUsageClientAuth, groups...)
	}
	roots := ca.roots()
	tokens := &TokenFile{map[[sha256.Size]byte]*request.UserInfo{sha256.Sum256([]byte("right")): {Name: "robot", Groups: []string{"system:authenticated"}}}}
	a := New(Options{Roots: func() *x509.CertPool { return roots }, Tokens: []Token{tokens}, Now: func() time.Time { return now }})
	for _, test := range []struct {
		name, path, header string
		cert               *x509.Certificate
		user               string
		groups             []string
	}{
		{name: "certificate", path: "/api/v1/pods", cert: cert("jane", now.Add(time.Hour), "devs", "ops"), user: "jane", groups: []string{"ops", "devs", "system:authenticated"}},
		{name: "certificate with a token beside", path: "/api", cert: cert("jane", now.Add(time.Hour)), header: "Bearer x", user: "jane", groups: []string{"system:authenticated"}},
		{name: "expired certificate", path: "/api", cert: cert("jane", now.Add(-time.Second))},
		{name: "certificate of nobody", path: "/api", cert: cert("", now.Add(time.Hour), "system:masters")},
		{name: "certificate of another CA", path: "/api", cert: other.issue(t, "jane", early, now.Add(time.Hour), x509.ExtKeyUsageClientAuth)},
		{name: "certificate from tomorrow", path: "/api", cert: ca.issue(t, "jane", now.Add(time.Hour), now.Add(2*time.Hour), x509.ExtKeyUsageClientAuth)},
		{name: "certificate for servers", path: "/api", cert: ca.issue(t, "jane", early, now.Add(time.Hour), x509.ExtKeyUsageServerAuth)},
		{name: "token", path: "/api", header: "Bearer right", user: "robot", groups: []string{"system:authenticated"}},
		{name: "token after a bad certificate", path: "/api", cert: cert("jane", now.Add(-time.Second)), header: "Bearer right", user: "robot", groups: []string{"system:authenticated"}},
		{name: "wrong token", path: "/api", header: "Bearer wrong"},
		{name: "password, which is off", path: "/api", header: "Basic amFuZTpzZWNyZXQ="},
		{name: "nothing", path: "/api"},
		{name: "nothing, metrics", path: "/metrics"},
		{name: "nothing, health", path: "/readyz", user: "system:anonymous", groups: []string{"system:unauthenticated"}},
		{name: "nothing, one check", path: "/livez/etcd", user: "system:anonymous", groups: []string{"system:unauthenticated"}},
		{name: "nothing, version", path: "/version", user: "system:anonymous", groups: []string{"system:unauthenticated"}},
		{name: "nothing, something like health", path: "/readyzx"},
		{name: "a token is not overlooked", path: "/readyz", header: "Bearer x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(ConnContext(t.Context(), nil), http.MethodGet, test.path, nil)
			if test.cert != nil {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{test.cert}}
			}
			for range 2 { // the second time from the connection's memory
				if test.header != "" {
					r.Header.Set("Authorization", test.header)
				}
				user, err := a.Authenticate(r)
				if test.user == "" {
					if !errors.Is(err, ErrUnauthorized) || user != nil {
						t.Errorf("got %v, %v, want a refusal", user, err)
					}
					continue
				}
				if err != nil || user.Name != test.user || !slices.Equal(user.Groups, test.groups) {
					t.Errorf("got %v, %v", user, err)
				}
			}
		})
	}
}

func TestACertificateExpiresOnAnOpenConnection(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ca := newAuthority(t, now)
	roots := ca.roots()
	clock := now
	a := New(Options{Roots: func() *x509.CertPool { return roots }, Now: func() time.Time { return clock }})
	r := httptest.NewRequestWithContext(ConnContext(t.Context(), nil), http.MethodGet, "/api", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{ca.issue(t, "jane", now.Add(-time.Hour), now, x509.ExtKeyUsageClientAuth)}}
	if _, err := a.Authenticate(r); err != nil {
		t.Fatal(err)
	}
	clock = now.Add(time.Second)
	if _, err := a.Authenticate(r); err == nil {
		t.Error("an expired certificate still works on its connection")
	}
	clock, roots = now, x509.NewCertPool()
	if _, err := a.Authenticate(r); err == nil {
		t.Error("a certificate outlives the CA that was taken away")
	}
}
