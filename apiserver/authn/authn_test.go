package authn

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

func TestAuthenticate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cert := func(cn string, until time.Time, groups ...string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: cn, Organization: groups}, NotAfter: until}
	}
	for _, test := range []struct {
		name, path, header string
		cert               *x509.Certificate
		unverified         bool
		user               string
		groups             []string
	}{
		{name: "certificate", path: "/api/v1/pods", cert: cert("jane", now.Add(time.Hour), "devs", "ops"), user: "jane", groups: []string{"devs", "ops", "system:authenticated"}},
		{name: "certificate with a token beside", path: "/api", cert: cert("jane", now.Add(time.Hour)), header: "Bearer x", user: "jane", groups: []string{"system:authenticated"}},
		{name: "expired certificate", path: "/api", cert: cert("jane", now.Add(-time.Second))},
		{name: "certificate of nobody", path: "/api", cert: cert("", now.Add(time.Hour), "system:masters")},
		{name: "certificate that nobody checked", path: "/api", cert: cert("jane", now.Add(time.Hour)), unverified: true},
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
			r.Header.Set("Authorization", test.header)
			if test.cert != nil {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{test.cert}}
				if !test.unverified {
					r.TLS.VerifiedChains = [][]*x509.Certificate{{test.cert}}
				}
			}
			for range 2 { // the second time from the connection's memory
				user, err := Authenticate(r, now)
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
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "jane"}, NotAfter: now}
	r := httptest.NewRequestWithContext(ConnContext(t.Context(), nil), http.MethodGet, "/api", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	if _, err := Authenticate(r, now); err != nil {
		t.Fatal(err)
	}
	if _, err := Authenticate(r, now.Add(time.Second)); err == nil {
		t.Error("an expired certificate still works on its connection")
	}
}
