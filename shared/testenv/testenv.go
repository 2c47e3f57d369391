// Package testenv starts the real apiserver for tests: its binary, built from this tree, with embedded etcd on an
// empty folder, free ports and certificates of its own. Nothing in it is a fake.
package testenv

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"hardway/shared/client"
	"hardway/shared/testenv/certs"
)

// startLimit is how long the apiserver may take to be ready on a busy machine.
const startLimit = 60 * time.Second

// Env is a running apiserver.
type Env struct {
	Dir     string // its files: ca.pem, etcd/, apiserver.log, ...
	Address string // host:port
	CA      *certs.CA

	t       testing.TB
	binary  string
	flags   []string
	process *exec.Cmd
	log     *os.File
}

// Start builds the apiserver, starts it with the given flags beside testenv's own, and waits until it is ready. It is
// stopped when the test ends; a failed test prints the end of its log.
func Start(t testing.TB, flags ...string) *Env {
	t.Helper()
	e := &Env{t: t, Dir: t.TempDir(), binary: Build(t, "apiserver")}
	e.writeCertificates()
	e.flags = append([]string{
		"--bind-address=127.0.0.1", "--secure-port=0", "--advertise-address=127.0.0.1",
		"--address-file=" + e.path("address"), "--etcd-data-dir=" + e.path("etcd"),
		"--client-ca-file=" + e.path("ca.pem"),
		"--tls-cert-file=" + e.path("server.pem"), "--tls-private-key-file=" + e.path("server-key.pem"),
		"--service-cluster-ip-range=10.32.0.0/24",
	}, flags...)
	e.Launch()
	t.Cleanup(func() {
		e.Stop()
		if t.Failed() {
			t.Logf("end of the apiserver's log:\n%s", e.logTail())
		}
	})
	return e
}

// Launch starts the process again after Stop or Kill, on the same data but perhaps another port, and waits until it is ready.
// See Relaunch for the same port.
func (e *Env) Launch() {
	e.t.Helper()
	log, err := os.OpenFile(e.path("apiserver.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	os.Remove(e.path("address")) //nolint:errcheck // absent at the first start
	e.log = log
	e.process = exec.Command(e.binary, e.flags...)
	e.process.Stdout, e.process.Stderr = log, log
	e.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := e.process.Start(); err != nil {
		e.t.Fatalf("start the apiserver: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		e.process.Wait() //nolint:errcheck // how it ended shows in its log
		close(exited)
	}()
	deadline := time.After(startLimit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !e.ready() {
		select {
		case <-exited:
			e.t.Fatalf("the apiserver ended at its start:\n%s", e.logTail())
		case <-deadline:
			e.t.Fatalf("the apiserver is not ready after %s:\n%s", startLimit, e.logTail())
		case <-tick.C:
		}
	}
}

// Relaunch starts the process again on the given address, that of an earlier Launch, so that clients find it.
func (e *Env) Relaunch(address string) {
	e.t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		e.t.Fatal(err)
	}
	e.flags = append(e.flags, "--secure-port="+port)
	e.Launch()
}

// Stop ends the process in good order. Calling it twice does no harm.
func (e *Env) Stop() { e.end(syscall.SIGTERM) }

// Kill ends the process as a power cut would: kill -9.
func (e *Env) Kill() { e.end(syscall.SIGKILL) }

func (e *Env) end(sig syscall.Signal) {
	if e.log == nil {
		return
	}
	e.process.Process.Signal(sig) //nolint:errcheck // it may have ended already
	for e.process.Process.Signal(syscall.Signal(0)) == nil {
		time.Sleep(5 * time.Millisecond)
	}
	e.log.Close() //nolint:errcheck // nothing is lost
	e.log = nil
}

// Config returns the settings of a client who is the cluster's administrator.
func (e *Env) Config() *rest.Config { return e.ConfigFor("admin", "system:masters") }

// ConfigFor returns the settings of a client with a certificate for the given user and groups.
func (e *Env) ConfigFor(user string, groups ...string) *rest.Config {
	e.t.Helper()
	leaf, err := e.CA.Issue(certs.Leaf{CommonName: user, Organization: groups})
	if err != nil {
		e.t.Fatal(err)
	}
	return client.Tune(&rest.Config{
		Host:            "https://" + e.Address,
		TLSClientConfig: rest.TLSClientConfig{CAData: e.CA.PEM, CertData: leaf.CertPEM, KeyData: leaf.KeyPEM},
	}, "testenv")
}

// API returns the administrator's connection.
func (e *Env) API() *client.API {
	e.t.Helper()
	api, err := client.New(e.Config())
	if err != nil {
		e.t.Fatal(err)
	}
	return api
}

func (e *Env) path(name string) string { return filepath.Join(e.Dir, name) }

func (e *Env) writeCertificates() {
	e.t.Helper()
	ca, err := certs.NewCA("testenv-ca")
	if err != nil {
		e.t.Fatal(err)
	}
	server, err := ca.Issue(certs.Leaf{CommonName: "kubernetes", Hosts: []string{"127.0.0.1", "localhost", "10.32.0.1", "kubernetes.default"}})
	if err != nil {
		e.t.Fatal(err)
	}
	e.CA = ca
	for name, data := range map[string][]byte{"ca.pem": ca.PEM, "server.pem": server.CertPEM, "server-key.pem": server.KeyPEM} {
		if err := os.WriteFile(e.path(name), data, 0o600); err != nil {
			e.t.Fatal(err)
		}
	}
}

// ready learns the address and asks /readyz.
func (e *Env) ready() bool {
	addr, err := os.ReadFile(e.path("address"))
	if err != nil || len(bytes.TrimSpace(addr)) == 0 {
		return false
	}
	e.Address = string(bytes.TrimSpace(addr))
	h, err := rest.HTTPClientFor(e.Config())
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+e.Address+"/readyz", nil)
	if err != nil {
		e.t.Fatal(err)
	}
	resp, err := h.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (e *Env) logTail() string {
	data, _ := os.ReadFile(e.path("apiserver.log"))
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// built holds the binaries that this process has built already: asking the go command again takes seconds on a busy machine.
var built sync.Map

// Build compiles a daemon of this tree, such as "apiserver", and returns the path of its binary. Tests of several
// packages that build at once wait for each other; within one test binary it is done once.
func Build(t testing.TB, module string) string {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	if binary, ok := built.Load(module); ok {
		return binary.(string)
	}
	dir := filepath.Join(root, ".hardway", "testbin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(dir, module+".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatalf("wait for other builds of %s: %v", module, err)
	}
	binary := filepath.Join(dir, "hardway-"+module)
	build := exec.Command("go", "build", "-tags", "seccomp", "-o", binary, ".")
	build.Dir = filepath.Join(root, module)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", module, err, out)
	}
	built.Store(module, binary)
	return binary
}

// Root is the top folder of the source tree, the one with go.work.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no go.work above the working folder")
}
