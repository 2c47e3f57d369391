package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxDocument bounds what an issuer may send.
	maxDocument = 1 << 20
	// fetchTimeout bounds one attempt to get keys, and fetchPause is between two, whoever asks with what key id.
	fetchTimeout = 20 * time.Second
	fetchPause   = 10 * time.Second
)

// keys are the public keys of an issuer: fetched when first needed, and again when a token names one that is not there.
type keys struct {
	http   *http.Client
	issuer string
	from   string // the discovery document
	now    func() time.Time

	fetching sync.Mutex // held by who fetches
	mu       sync.RWMutex
	set      *jose.JSONWebKeySet // guarded by mu
	fetched  time.Time           // guarded by mu; the last attempt
	failed   error               // guarded by mu; of that attempt
}

func newKeys(c *Issuer, now func() time.Time) (*keys, error) {
	roots, err := x509.SystemCertPool()
	if c.Issuer.CertificateAuthority != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(c.Issuer.CertificateAuthority)) {
			return nil, errors.New("issuer.certificateAuthority: it holds no certificate in PEM")
		}
	} else if err != nil {
		return nil, fmt.Errorf("read the system's CAs: %w", err)
	}
	k := &keys{issuer: c.Issuer.URL, from: strings.TrimSuffix(c.Issuer.URL, "/") + "/.well-known/openid-configuration", now: now}
	if d := c.Issuer.DiscoveryURL; d != "" {
		k.from = d
	}
	k.http = &http.Client{
		Timeout:   fetchTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute},
	}
	return k, nil
}

// find returns the keys that may have signed a token: those with its key id, or all when it has none.
func (k *keys) find(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	found, _, _ := k.known(id)
	if len(found) > 0 {
		return found, nil
	}
	k.fetching.Lock()
	defer k.fetching.Unlock()
	found, fetched, err := k.known(id) // while we waited, somebody else may have fetched
	if len(found) > 0 {
		return found, nil
	}
	if k.now().Sub(fetched) >= fetchPause {
		var set *jose.JSONWebKeySet
		set, err = k.fetch(ctx)
		k.mu.Lock()
		k.fetched, k.failed = k.now(), err
		if err == nil {
			k.set = set
		}
		k.mu.Unlock()
		found, _, _ = k.known(id)
	}
	switch {
	case len(found) > 0:
		return found, nil
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("the issuer has no key %q", id)
}

func (k *keys) known(id string) (found []jose.JSONWebKey, fetched time.Time, failed error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.set != nil {
		for _, key := range k.set.Keys {
			if (id == "" || key.KeyID == id) && (key.Use == "" || key.Use == "sig") {
				found = append(found, key)
			}
		}
	}
	return found, k.fetched, k.failed
}

// fetch reads the discovery document and the keys that it names.
func (k *keys) fetch(ctx context.Context) (*jose.JSONWebKeySet, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout) // others want the keys, too
	defer cancel()
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := k.get(ctx, k.from, &doc); err != nil {
		return nil, err
	}
	if doc.Issuer != k.issuer {
		return nil, fmt.Errorf("get %s: it is of the issuer %q, not %q", k.from, doc.Issuer, k.issuer)
	}
	if !strings.HasPrefix(doc.JWKSURI, "https://") {
		return nil, fmt.Errorf("get %s: jwks_uri %q is no https URL", k.from, doc.JWKSURI)
	}
	set := &jose.JSONWebKeySet{}
	return set, k.get(ctx, doc.JWKSURI, set)
}

func (k *keys) get(ctx context.Context, url string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := k.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDocument)).Decode(into); err != nil {
		return fmt.Errorf("get %s: %w", url, err)
	}
	return nil
}
