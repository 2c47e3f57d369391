package integration

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hardway/shared/client"
	"hardway/shared/testenv"
)

// freePort returns a port that nobody uses at the moment.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestPort asks for health without, and for metrics with and without a client certificate.
func TestPort(t *testing.T) {
	c := newCluster(t)
	port := freePort(t)
	c.start(fmt.Sprint("--secure-port=", port), "--bind-address=127.0.0.1", "--client-ca-file="+c.ca, "--controllers=*,-deployment", "--root-ca-file=")
	cfg := c.api.Config()
	pair, err := tls.X509KeyPair(cfg.CertData, cfg.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string, certificates ...tls.Certificate) (int, string) {
		hc := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates}}}
		defer hc.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d%s", port, path), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := hc.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	c.eventually("ready", func() string {
		if code, body := get("/readyz"); code != http.StatusOK {
			return fmt.Sprint(code, " ", body)
		}
		return ""
	})
	if code, body := get("/healthz/job-controller"); code != http.StatusOK {
		t.Errorf("health of one controller: %d %s", code, body)
	}
	for _, path := range []string{"/metrics", "/debug/controllers", "/debug/pprof/"} {
		if code, body := get(path); code != http.StatusUnauthorized {
			t.Errorf("%s without a certificate: %d %s", path, code, body)
		}
		if code, body := get(path, pair); code != http.StatusOK {
			t.Errorf("%s with a certificate: %d %s", path, code, body)
		}
	}
	c.eventually("metrics", func() string {
		_, body := get("/metrics", pair)
		for _, name := range []string{`workqueue_depth{name="replicaset"}`, "rest_client_requests_total{", "leader_election_master_status{", "process_cpu_seconds_total"} {
			if !strings.Contains(body, name) {
				return name + " is missing"
			}
		}
		return ""
	})
	_, body := get("/debug/controllers", pair)
	var rows []struct {
		Name    string
		Running bool
		Reason  string
	}
	if err := json.Unmarshal([]byte(body), &rows); err != nil {
		t.Fatal(err)
	}
	state := map[string]string{}
	for _, r := range rows {
		state[r.Name] = fmt.Sprint(r.Running, " ", r.Reason)
	}
	if _, on := state["deployment-controller"]; on || state["replicaset-controller"] != "true " ||
		state["root-ca-certificate-publisher-controller"] != "false --root-ca-file is not set" {
		t.Errorf("controllers: %v", state)
	}
}

// TestBadConfiguration checks that mistakes end the program with exit code 2 and a sentence.
func TestBadConfiguration(t *testing.T) {
	c := newCluster(t)
	binary := testenv.Build(t, "controllers")
	for _, tt := range []struct{ flag, says string }{
		{"--no-such-flag", "unknown flag"}, {"--controllers=nonsense", "there is no controller"}, {"--kubeconfig=/does/not/exist", "/does/not/exist"},
		{"--root-ca-file=" + filepath.Join(t.TempDir(), "absent"), "root-ca-file"}, {"--node-cidr-mask-size=8", "node mask size /8 does not fit"},
		{"--tls-cert-file=x", "belong together"},
	} {
		ctx, stop := context.WithTimeout(t.Context(), patience)
		cmd := exec.CommandContext(ctx, binary, "--kubeconfig="+c.kubeconfig, "--secure-port=0", "--allocate-node-cidrs", "--cluster-cidr=10.200.0.0/16", tt.flag)
		out, _ := cmd.CombinedOutput()
		stop()
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), tt.says) {
			t.Errorf("%s: exit code %d, %s", tt.flag, code, out)
		}
	}
}

// TestPausedLeader stops the leader's process until another one leads, then lets it go on: it has to stand by, not to end.
func TestPausedLeader(t *testing.T) {
	c := newCluster(t)
	flags := []string{"--leader-elect=true", "--leader-elect-lease-duration=2s", "--leader-elect-renew-deadline=1s", "--leader-elect-retry-period=200ms"}
	holder := func() string {
		lease, err := client.Leases.Get(t.Context(), c.api, "kube-system", "kube-controller-manager")
		if err != nil || lease.Spec.HolderIdentity == nil {
			return ""
		}
		return *lease.Spec.HolderIdentity
	}
	first := c.start(flags...)
	c.eventually("a leader", func() string {
		if holder() == "" {
			return "nobody"
		}
		return ""
	})
	one := holder()
	second := c.start(flags...)
	if err := first.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.eventually("another leader", func() string {
		if holder() == one || holder() == "" {
			return holder()
		}
		return ""
	})
	two := holder()
	if err := first.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if h := holder(); h != two {
			t.Fatalf("%s leads, want %s", h, two)
		}
	}
	if err := first.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("the first one has ended: %v", err)
	}
	second.end(syscall.SIGTERM)
	c.eventually("the first one leads again", func() string {
		if holder() != one {
			return holder() + " leads"
		}
		return ""
	})
	c.namespace("paused")
}
