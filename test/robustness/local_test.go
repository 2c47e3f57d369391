//go:build robustness

package robustness

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// TestControlPlane is the small sibling of TestRandomFaults: three API servers with an etcd member each, as processes of
// this machine behind a load balancer, without machines and nodes. It is there in seconds. HARDWAY_BIN and HARDWAY_SCRIPTS
// say where the program and certs.sh are.
func TestControlPlane(t *testing.T) {
	seed, minutes := number(t, "SEED", 1), number(t, "MINUTES", 5)
	servers, config := controlPlaneOf(t, 3)
	load, err := StartLoad(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(uint64(seed), 1))
	some := func(least, most time.Duration) time.Duration {
		return least + time.Duration(random.Int64N(int64(most-least)))
	}
	for end := time.Now().Add(time.Duration(minutes) * time.Minute); time.Now().Before(end); {
		s := servers[random.IntN(len(servers))]
		kind := []string{"kill -9", "kill -9", "pause", "clean stop", "kill -9 of all"}[random.IntN(5)]
		stay := some(time.Second, 8*time.Second)
		t.Logf("%s  %s of %s (%s)", at(load.History.Now()), kind, s.name, at(stay))
		switch kind {
		case "kill -9":
			s.signal(syscall.SIGKILL)
		case "clean stop":
			s.signal(syscall.SIGTERM)
		case "kill -9 of all":
			for _, s := range servers {
				s.signal(syscall.SIGKILL)
			}
		case "pause":
			s.signal(syscall.SIGSTOP)
			<-time.After(stay)
			s.signal(syscall.SIGCONT)
		}
		<-time.After(some(6*time.Second, 12*time.Second))
	}
	for _, s := range servers {
		s.ready(t)
	}
	judge(t, load, nil)
}

// server is an API server that is started again whenever it ends, as systemd would.
type server struct {
	name, url string
	args      []string
	trusted   *rest.Config

	pid     atomic.Int64
	log     *os.File
	program string
}

func (s *server) run(ctx context.Context) {
	for ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, s.program, s.args...)
		cmd.Stdout, cmd.Stderr = s.log, s.log
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(s.log, err)
			return
		}
		s.pid.Store(int64(cmd.Process.Pid))
		_ = cmd.Wait() // however it ended
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (s *server) signal(sig syscall.Signal) { _ = syscall.Kill(int(s.pid.Load()), sig) } // it may be down

func (s *server) ready(t *testing.T) {
	t.Helper()
	web, err := rest.HTTPClientFor(s.trusted)
	if err != nil {
		t.Fatal(err)
	}
	web.Timeout = requestTime
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		if answer, err := web.Get(s.url + "/readyz"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == 200 {
				return
			}
		}
		if time.Since(begin) > 2*time.Minute {
			text, _ := os.ReadFile(s.log.Name())
			t.Fatalf("%s is not ready after two minutes:\n%s", s.name, text[max(0, len(text)-4000):])
		}
	}
}

// controlPlaneOf starts n API servers and a load balancer, and returns the administrator's way in.
func controlPlaneOf(t *testing.T, n int) ([]*server, *rest.Config) {
	t.Helper()
	dir := t.TempDir()
	pki := filepath.Join(dir, "pki")
	if out, err := exec.CommandContext(t.Context(), filepath.Join(os.Getenv("HARDWAY_SCRIPTS"), "certs.sh"), pki).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file := func(name string) string { return filepath.Join(pki, name+".pem") }
	tls := rest.TLSClientConfig{CAFile: file("ca"), CertFile: file("admin"), KeyFile: file("admin-key")}
	var members, targets []string
	for i := range n {
		members = append(members, fmt.Sprintf("m%d=https://127.0.0.1:%d", i, 23800+i))
		targets = append(targets, fmt.Sprintf("127.0.0.1:%d", 26443+i))
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait() })
	var servers []*server
	for i := range n {
		log, err := os.Create(filepath.Join(dir, fmt.Sprintf("m%d.log", i)))
		if err != nil {
			t.Fatal(err)
		}
		peer := fmt.Sprintf("https://127.0.0.1:%d", 23800+i)
		s := &server{name: fmt.Sprint("m", i), url: "https://" + targets[i], trusted: &rest.Config{TLSClientConfig: tls}, log: log, program: filepath.Join(os.Getenv("HARDWAY_BIN"), "hardway-apiserver"),
			args: []string{"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprint("--secure-port=", 26443+i), "--client-ca-file=" + file("ca"),
				"--tls-cert-file=" + file("kubernetes"), "--tls-private-key-file=" + file("kubernetes-key"), "--authorization-mode=Node,RBAC",
				"--service-account-key-file=" + file("service-account"), "--service-account-signing-key-file=" + file("service-account-key"),
				"--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-cluster-ip-range=10.32.0.0/24",
				"--etcd-cafile=" + file("ca"), "--etcd-certfile=" + file("kubernetes"), "--etcd-keyfile=" + file("kubernetes-key"),
				fmt.Sprint("--etcd-name=m", i), "--etcd-data-dir=" + filepath.Join(dir, fmt.Sprint("etcd", i)), "--etcd-listen-peer-urls=" + peer,
				"--etcd-initial-advertise-peer-urls=" + peer, "--etcd-initial-cluster=" + strings.Join(members, ",")}}
		servers = append(servers, s)
		wg.Go(func() { s.run(ctx) })
	}
	for _, s := range servers {
		s.ready(t)
	}
	return servers, &rest.Config{Host: "https://" + balance(t, targets), TLSClientConfig: tls}
}

// balance relays connections to whichever target takes them, one after the other, as nginx does in front of a cluster.
func balance(t *testing.T, targets []string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for next := 0; ; next++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				for i := range targets {
					server, err := net.DialTimeout("tcp", targets[(next+i)%len(targets)], time.Second)
					if err != nil {
						continue
					}
					defer server.Close()
					go func() {
						_, _ = io.Copy(server, client) // until one side ends
						server.Close()
						client.Close()
					}()
					_, _ = io.Copy(client, server)
					return
				}
			}()
		}
	}()
	return l.Addr().String()
}
