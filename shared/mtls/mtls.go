// Package mtls builds TLS configurations whose certificate, key and CA files are read again when they change on
// disk, so that no daemon needs a restart to get a renewed certificate.
//
// Files are looked at during a handshake, at most once a second: no timer runs. Files that cannot be read or do not
// fit together leave the last good ones in use.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// Files are paths of PEM files. CA may hold several certificates: all are trusted, as during a rotation.
type Files struct{ Cert, Key, CA string }

// Server returns a configuration for a listener. With a CA, clients may present a certificate, which must then be
// valid; who must present one is decided by the handler, from the request's TLS state.
func Server(f Files) (*tls.Config, error) {
	p, err := open(f)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return p.current().server, nil
		},
	}, nil
}

// Asking returns a configuration for a listener whose handler checks certificates by itself, against a Pool: clients may
// present any, or none. f.CA is not used.
func Asking(f Files) (*tls.Config, error) {
	f.CA = ""
	p, err := open(f)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cfg := p.current().server.Clone()
			cfg.ClientAuth = tls.RequestClientCert
			return cfg, nil
		},
	}, nil
}

// Pool is a file of CA certificates.
type Pool struct{ pair *pair }

// OpenPool reads a file of CA certificates.
func OpenPool(path string) (*Pool, error) {
	p, err := open(Files{CA: path})
	if err != nil {
		return nil, err
	}
	return &Pool{p}, nil
}

// Roots are the certificates that are in the file now. The same pool means that nothing changed.
func (p *Pool) Roots() *x509.CertPool { return p.pair.current().roots }

// Identity is who a client is and whom it trusts.
type Identity struct{ pair *pair }

// Client reads the files of a client: Cert and Key, if given, are presented; CA, if given, is trusted instead of the
// system's roots.
func Client(f Files) (*Identity, error) {
	p, err := open(f)
	if err != nil {
		return nil, err
	}
	return &Identity{p}, nil
}

// TLS returns the configuration for one new connection to a server that must prove to be serverName, a DNS name or
// an address. Make one for every connection: it holds the files' content of this moment.
func (i *Identity) TLS(serverName string) *tls.Config {
	c := i.pair.current()
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName, RootCAs: c.roots}
	if c.cert != nil {
		cfg.Certificates = []tls.Certificate{*c.cert}
	}
	return cfg
}

// pair is the files' last good content.
type pair struct {
	files Files

	mu      sync.Mutex
	looked  time.Time
	stamps  [3]stamp
	content content
}

type stamp struct {
	modified time.Time
	size     int64
}

type content struct {
	cert   *tls.Certificate
	roots  *x509.CertPool
	server *tls.Config
}

func open(f Files) (*pair, error) {
	p := &pair{files: f}
	c, err := read(f)
	if err != nil {
		return nil, err
	}
	p.content, p.stamps, p.looked = c, stampsOf(f), time.Now()
	return p, nil
}

// current returns the files' content, reading them again when they changed since the last look.
func (p *pair) current() content {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.looked) < time.Second {
		return p.content
	}
	p.looked = now
	stamps := stampsOf(p.files)
	if stamps == p.stamps {
		return p.content
	}
	// A half-written pair does not load: keep the old one and look again at the next handshake.
	if c, err := read(p.files); err == nil {
		p.content, p.stamps = c, stamps
	}
	return p.content
}

func stampsOf(f Files) (s [3]stamp) {
	for i, path := range []string{f.Cert, f.Key, f.CA} {
		if info, err := os.Stat(path); path != "" && err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

func read(f Files) (content, error) {
	var c content
	if f.Cert != "" || f.Key != "" {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return c, fmt.Errorf("load certificate %s with key %s: %w", f.Cert, f.Key, err)
		}
		c.cert = &cert
	}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return c, fmt.Errorf("load CA: %w", err)
		}
		c.roots = x509.NewCertPool()
		if !c.roots.AppendCertsFromPEM(pem) {
			return c, fmt.Errorf("load CA: %s holds no PEM certificate", f.CA)
		}
	}
	c.server = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if c.cert != nil {
		c.server.Certificates = []tls.Certificate{*c.cert}
	}
	if c.roots != nil {
		c.server.ClientCAs, c.server.ClientAuth = c.roots, tls.VerifyClientCertIfGiven
	}
	return c, nil
}
