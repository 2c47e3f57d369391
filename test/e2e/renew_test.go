//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestCertificatesRenew gives every daemon certificates that live for minutes, renews them under load, and wants not one
// failed request: those of people, those that the API server passes on to the agent, and those of the daemons, of which
// the API server may have refused none. Files are renewed at half of their life, as 'certs.sh renew' does it; the agent's
// two certificates come from the cluster, and it renews them by itself.
//
// It runs when HARDWAY_RENEW_FOR says for how long; HARDWAY_RENEW_LIFE (default 10m) is how long files are good. The cluster's
// signer gives no certificate for less than ten minutes, so the agent begins with one that is soon over; within an hour its
// later ones are renewed, too.
func TestCertificatesRenew(t *testing.T) {
	if os.Getenv("HARDWAY_RENEW_FOR") == "" {
		t.Skip("HARDWAY_RENEW_FOR does not say for how long")
	}
	life, whole := duration(t, "HARDWAY_RENEW_LIFE", 10*time.Minute), duration(t, "HARDWAY_RENEW_FOR", time.Hour)
	u := newUser(t)
	u.startHello(t)
	before := u.facts(t)
	p := newPKI(t, life)
	t.Cleanup(func() { p.putBack(t) })
	p.renew(t)
	p.agentAsks(t)
	p.controllersSign(t)
	wait(t, "the agent has both certificates from the cluster", time.Minute, func() error {
		_, err := u.try(t, "", "logs", "deployment/hello")
		return err
	})
	first, begin := p.agents(t), u.refused(t)

	l := &requests{user: u, pod: u.pods(t)[0].Name}
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for _, args := range [][]string{
		{"get", "--raw", "/api/v1/nodes"}, {"get", "pods"}, {"logs", l.pod, "--tail=1"}, {"create", "token", "default"},
		{"annotate", "--overwrite", "deployment", "hello", "renewals=seen"},
	} {
		clients.Go(func() { l.repeat(ctx, args) })
	}
	renewals := 0
	for end := time.Now().Add(whole); time.Now().Before(end); renewals++ {
		<-time.After(min(life/2, time.Until(end)+time.Millisecond))
		p.renew(t)
	}
	stop()
	clients.Wait()

	t.Logf("%d requests, %d renewals of %d files' certificates with %s of life", l.sent.Load(), renewals, len(p.leaves), life)
	for _, failure := range l.failures {
		t.Error(failure)
	}
	if n := u.refused(t) - begin; n != 0 {
		t.Errorf("the API server did not know who sent %d requests", n)
	}
	for name, then := range first {
		now := p.agents(t)[name]
		t.Logf("the agent's certificate %s: serial %x, then %x, until %s", name, then.SerialNumber, now.SerialNumber, now.NotAfter.Format(time.TimeOnly))
		if time.Now().After(now.NotAfter) {
			t.Errorf("the agent's certificate %s is over", name)
		}
		if whole > 10*time.Minute && now.SerialNumber.Cmp(then.SerialNumber) == 0 {
			t.Errorf("the agent has not renewed %s", name)
		}
	}
	sameAs(t, before, u.facts(t))
	contains(t, u.kubectl(t, "get nodes"), " Ready ")
}

func duration(t *testing.T, name string, otherwise time.Duration) time.Duration {
	t.Helper()
	if os.Getenv(name) == "" {
		return otherwise
	}
	d, err := time.ParseDuration(os.Getenv(name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// requests are kubectl's, one after the other.
type requests struct {
	user user
	pod  string
	sent atomic.Int64

	mu       sync.Mutex
	failures []string
}

func (l *requests) repeat(ctx context.Context, args []string) {
	for ctx.Err() == nil {
		out, err := command(context.WithoutCancel(ctx), "", append([]string{"--namespace", l.user.namespace}, args...)...).CombinedOutput()
		l.sent.Add(1)
		if err != nil {
			l.mu.Lock()
			l.failures = append(l.failures, fmt.Sprintf("%s: kubectl %s: %v %s", time.Now().Format(time.TimeOnly), strings.Join(args, " "), err, out))
			l.mu.Unlock()
		}
	}
}

var unauthorized = regexp.MustCompile(`(?m)^apiserver_request_total\{[^}]*code="401"[^}]*\} (\d+)`)

// refused counts the requests, of anybody, that the API server has answered with 401.
func (u user) refused(t *testing.T) (n int) {
	t.Helper()
	for _, m := range unauthorized.FindAllStringSubmatch(u.run(t, "", "get", "--raw", "/metrics"), -1) {
		var k int
		if _, err := fmt.Sscan(m[1], &k); err != nil {
			t.Fatal(err)
		}
		n += k
	}
	return n
}

// pki is the certificates of the cluster under test.
type pki struct {
	life   time.Duration
	ca     tls.Certificate
	leaves []string // files without .pem that the CA has signed
	node   string
}

func newPKI(t *testing.T, life time.Duration) *pki {
	t.Helper()
	p := &pki{life: life}
	var err error
	if p.ca, err = tls.LoadX509KeyPair(p.file("ca.pem"), p.file("ca-key.pem")); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(p.file("*-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		file = strings.TrimSuffix(file, "-key.pem")
		c := read(t, file+".pem")
		if c.IsCA || filepath.Base(file) == "service-account" || c.CheckSignatureFrom(p.ca.Leaf) != nil {
			continue
		}
		p.leaves = append(p.leaves, file)
		if name, ok := strings.CutPrefix(c.Subject.CommonName, "system:node:"); ok {
			p.node = name
		}
	}
	return p
}

func (p *pki) file(name string) string { return filepath.Join(state, "pki", name) }

// read reads the first certificate of a file.
func read(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	text := must(os.ReadFile(file))
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		return c
	}
	t.Fatalf("%s holds no certificate", file)
	return nil
}

// renew makes every leaf anew, and the kubeconfigs that hold it.
func (p *pki) renew(t *testing.T) {
	t.Helper()
	for _, leaf := range p.leaves {
		certificate, key := p.sign(t, read(t, leaf+".pem"))
		replace(t, leaf+"-key.pem", key)
		replace(t, leaf+".pem", certificate)
	}
	conf := filepath.Join(state, "conf")
	if out, err := exec.Command(filepath.Join(root, "scripts", "kubeconfigs.sh"), filepath.Join(state, "pki"), conf).CombinedOutput(); err != nil {
		t.Fatalf("kubeconfigs.sh: %v %s", err, out)
	}
	replace(t, filepath.Join(state, "admin.kubeconfig"), must(os.ReadFile(filepath.Join(conf, "admin.kubeconfig"))))
}

// sign makes a certificate that says what an old one says, for a new key.
func (p *pki) sign(t *testing.T, old *x509.Certificate) (certificate, private []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: old.Subject, DNSNames: old.DNSNames, IPAddresses: old.IPAddresses, KeyUsage: old.KeyUsage, ExtKeyUsage: old.ExtKeyUsage,
		NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(p.life), BasicConstraintsValid: true,
	}, p.ca.Leaf, &key.PublicKey, p.ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// replace writes a file, all of it or nothing.
func replace(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// agents reads the two certificates that the agent keeps.
func (p *pki) agents(t *testing.T) map[string]*x509.Certificate {
	t.Helper()
	out := map[string]*x509.Certificate{}
	for _, name := range []string{"client", "server"} {
		out[name] = read(t, p.agentFile(name))
	}
	return out
}

func (p *pki) agentFile(name string) string {
	return filepath.Join(state, "node", "pki", "kubelet-"+name+"-current.pem")
}

// agentAsks makes the agent one that has its certificates from the cluster. Its first is as one that it got by a token,
// and nearly over.
func (p *pki) agentAsks(t *testing.T) {
	t.Helper()
	file := filepath.Join(state, "conf", "nodeagent.yaml")
	text := regexp.MustCompile(`(?m)^tls(CertFile|PrivateKeyFile): .*\n`).ReplaceAll(must(os.ReadFile(file)), nil)
	replace(t, file, append(text, "serverTLSBootstrap: true\nrotateCertificates: true\n"...))
	if err := os.MkdirAll(filepath.Dir(p.agentFile("client")), 0o700); err != nil {
		t.Fatal(err)
	}
	short := *p
	short.life = 30 * time.Second
	certificate, key := short.sign(t, read(t, p.file(p.node+".pem")))
	replace(t, p.agentFile("client"), append(certificate, key...))
	kubeconfig := filepath.Join(state, "conf", p.node+".kubeconfig")
	text = regexp.MustCompile(`client-(certificate|key)-data: .*`).ReplaceAll(must(os.ReadFile(kubeconfig)), []byte("client-$1: "+p.agentFile("client")))
	replace(t, kubeconfig, text)
	kill(t, "nodeagent")
}

// controllersSign has the controllers approve serving certificates, and give out none for more than ten minutes.
func (p *pki) controllersSign(t *testing.T) {
	t.Helper()
	args := strings.Split(strings.TrimSuffix(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", daemonPID("controllers"))))), "\x00"), "\x00")
	args = slices.Concat([]string{filepath.Join(root, "scripts", "supervise.sh"), state, "controllers"}, args, []string{"--cluster-signing-duration=10m", "--approve-kubelet-serving"})
	supervisor := strings.TrimSpace(string(must(os.ReadFile(filepath.Join(state, "run", "controllers.supervisor.pid")))))
	var pid int
	if _, err := fmt.Sscan(supervisor, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wait(t, "the controllers have ended", 30*time.Second, func() error {
		if _, err := os.Stat(filepath.Join(state, "run", "controllers.supervisor.pid")); err == nil {
			return fmt.Errorf("process %d runs", pid)
		}
		return nil
	})
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait() //nolint:errcheck // 'make up' or 'make down' ends it
}

// putBack gives the cluster what 'make up' gives it: certificates for a year, and daemons that take them from files.
func (p *pki) putBack(t *testing.T) {
	if err := os.Remove(p.agentFile("client")); err != nil {
		t.Error(err)
	}
	var said bytes.Buffer
	if err := script("up.sh", &said); err != nil {
		t.Errorf("%v\n%s", err, &said)
		return
	}
	kill(t, "nodeagent")
	wait(t, "the node is ready", time.Minute, func() error {
		var node corev1.Node
		if err := (user{"default"}).read(t, "node", p.node, &node); err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", node.Status.Conditions)
	})
}
