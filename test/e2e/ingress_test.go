//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
)

// TestIngress follows examples/ingress.yaml: a node is chosen, and a host answers over TLS with its own certificate.
func TestIngress(t *testing.T) {
	const host = "journey.example" // that of the file may be another test's
	u := newUser(t)
	u.startHello(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	openssl := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN="+host, "-addext", "subjectAltName=DNS:"+host, "-keyout", key, "-out", cert)
	if out, err := openssl.CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	u.kubectl(t, "create secret tls hello-example --cert="+cert+" --key="+key)
	u.apply(t, strings.ReplaceAll(example(t, "ingress.yaml"), "hello.example", host))
	u.kubectl(t, "label node --all hardway/ingress=")
	t.Cleanup(func() {
		if out, err := command(context.Background(), "", "label", "node", "--all", "hardway/ingress-").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})

	var address string
	wait(t, "address of the Ingress", time.Minute, func() error {
		var in networkingv1.Ingress
		if err := u.read(t, "ingress", "hello", &in); err != nil {
			return err
		}
		if len(in.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("status %+v", in.Status)
		}
		address = in.Status.LoadBalancer.Ingress[0].IP
		return nil
	})
	ask := func(url string) (*http.Response, string, error) {
		transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, //nolint:gosec // looked at below
			DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(to)
				if err != nil {
					return nil, err
				}
				return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(address, port))
			}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			return nil, "", err
		}
		response, err := transport.RoundTrip(r)
		if err != nil {
			return nil, "", err
		}
		defer response.Body.Close() //nolint:errcheck // it is read
		body, err := io.ReadAll(response.Body)
		return response, string(body), err
	}
	wait(t, "answer over TLS", 30*time.Second, func() error {
		response, body, err := ask("https://" + host)
		switch {
		case err != nil:
			return err
		case response.StatusCode != http.StatusOK || response.ProtoMajor != 2:
			return fmt.Errorf("%s %s: %s", response.Proto, response.Status, body)
		case response.TLS.PeerCertificates[0].Subject.CommonName != host:
			return fmt.Errorf("certificate of %s", response.TLS.PeerCertificates[0].Subject)
		}
		return nil
	})
	if response, _, err := ask("http://" + host + "/x"); err != nil || response.Header.Get("Location") != "https://"+host+"/x" {
		t.Errorf("without TLS: %v, %v", response, err)
	}
	if response, body, err := ask("http://other.example/"); err != nil || response.StatusCode != http.StatusNotFound || !strings.Contains(body, "no Ingress") {
		t.Errorf("another host: %v %q, %v", response, body, err)
	}
	// Requests go on while all pods are replaced.
	u.kubectl(t, "rollout restart deployment hello")
	asked := 0
	wait(t, "rollout", time.Minute, func() error {
		response, body, err := ask("https://" + host)
		if asked++; err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("request %d in a rollout: %v %q, %v", asked, response, body, err)
		}
		out, err := u.try(t, "", "rollout", "status", "deployment", "hello", "--watch=false")
		if err == nil && !strings.Contains(out, "successfully") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}
