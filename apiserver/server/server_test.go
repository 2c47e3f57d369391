package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"hardway/apiserver/config"
	"hardway/shared/daemon"
	"hardway/shared/testenv/certs"
)

// running is a server of this process.
type running struct {
	t       *testing.T
	address string
	ca      *certs.CA
	stop    func() error
}

// files makes the certificates and a configuration for them.
func files(t *testing.T) (*config.Config, *certs.CA) {
	t.Helper()
	dir := t.TempDir()
	ca, err := certs.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Issue(certs.Leaf{CommonName: "kubernetes", Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"ca.pem": ca.PEM, "s.pem": leaf.CertPEM, "s-key.pem": leaf.KeyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := config.Default()
	c.BindAddress, c.Port, c.AddressFile = "127.0.0.1", 0, filepath.Join(dir, "address")
	c.ClientCA, c.CertFile, c.KeyFile = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "s.pem"), filepath.Join(dir, "s-key.pem")
	c.Etcd.DataDir = filepath.Join(dir, "etcd")
	return c, ca
}

func start(t *testing.T, c *config.Config, ca *certs.CA) *running {
	t.Helper()
	os.Remove(c.AddressFile) //nolint:errcheck // absent at the first start
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c, zap.NewNop()) }()
	r := &running{t: t, ca: ca}
	r.stop = func() error {
		cancel()
		select {
		case err := <-ended:
			ended <- nil
			return err
		case <-time.After(5 * time.Second):
			return errors.New("not stopped after 5 s")
		}
	}
	t.Cleanup(func() { r.stop() }) //nolint:errcheck // checked where it matters
	for deadline := time.Now().Add(30 * time.Second); ; {
		select {
		case err := <-ended:
			t.Fatalf("ended at its start: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
		if text, err := os.ReadFile(c.AddressFile); err == nil {
			r.address = string(text)
			if code, _ := r.get("", "/readyz"); code == http.StatusOK {
				return r
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("not ready after 30 s")
		}
	}
}

// client is an HTTP/2 client with a certificate of a user, or none.
func (r *running) client(user string) *http.Client {
	r.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.ca.PEM)
	cfg := &tls.Config{RootCAs: roots}
	if user != "" {
		leaf, err := r.ca.Issue(certs.Leaf{CommonName: user, Organization: []string{"system:masters"}})
		if err != nil {
			r.t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(leaf.CertPEM, leaf.KeyPEM)
		if err != nil {
			r.t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (r *running) get(user, path string) (int, string) { return r.send(user, http.MethodGet, path, "") }

func (r *running) send(user, method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "https://"+r.address+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := r.client(user).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestLife(t *testing.T) {
	c, ca := files(t)
	r := start(t, c, ca)

	for _, test := range []struct {
		user, path, has string
		code            int
	}{
		{"", "/livez?verbose", "[+]etcd ok", 200},
		{"", "/readyz/bootstrap", "ok", 200},
		{"", "/version", `"gitVersion": "v1.36.3"`, 200},
		{"", "/api/v1/pods", `"reason":"Unauthorized"`, 401},
		{"", "/metrics", "Unauthorized", 401},
		{"", "/debug/pprof/", "Unauthorized", 401},
		{"admin", "/metrics", "apiserver_request_total{", 200},
		{"admin", "/debug/pprof/cmdline", "", 200},
		{"admin", "/api/v1/namespaces/kube-system", `"phase":"Active"`, 200},
		{"admin", "/api/v1/namespaces/default/services/kubernetes", `"clusterIP":"10.32.0.1"`, 200},
	} {
		if code, body := r.get(test.user, test.path); code != test.code || !strings.Contains(body, test.has) {
			t.Errorf("%s as %q: %d %.300s", test.path, test.user, code, body)
		}
	}
	if code, body := r.send("admin", "POST", "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"kept"}}`); code != http.StatusCreated {
		t.Fatalf("%d %s", code, body)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.address+"/api/v1/namespaces/default/configmaps?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.client("admin").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	events := bufio.NewReader(res.Body)
	if line, err := events.ReadString('\n'); err != nil || !strings.Contains(line, `"name":"kept"`) || res.ProtoMajor != 2 {
		t.Fatalf("watch over HTTP/%d: %s, %v", res.ProtoMajor, line, err)
	}
	if err := r.stop(); err != nil {
		t.Errorf("stop with an open watch: %v", err)
	}
	if _, err := events.ReadString('\n'); err != io.EOF { //nolint:errorlint // as io.Reader promises
		t.Errorf("the watch ended with %v, want a clean end", err)
	}

	r = start(t, c, ca)
	if code, body := r.get("admin", "/api/v1/namespaces/default/configmaps/kept"); code != http.StatusOK {
		t.Errorf("after a restart: %d %s", code, body)
	}
}

func TestBadFilesAreBadConfiguration(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"no certificate": func(c *config.Config) { c.CertFile = "/nowhere" },
		"no CA":          func(c *config.Config) { c.ClientCA = "/nowhere" },
		"no node CA":     func(c *config.Config) { c.Kubelet.CA = "/nowhere" },
	} {
		c, _ := files(t)
		change(c)
		var bad *daemon.ConfigError
		if err := Run(t.Context(), c, zap.NewNop()); !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
