//go:build interop

package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"hardway/shared/testenv/certs"
)

const (
	etcdURL = "http://127.0.0.1:6379"
	peerURL = "http://127.0.0.1:6380"
	address = "127.0.0.1:6444"
)

// lab is a folder with certificates, an etcd, and whatever runs on it.
type lab struct {
	t   *testing.T
	dir string
	ca  *certs.CA
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getenv("PEERS") == "" || os.Getenv("BIN") == "" {
		t.Skip("PEERS and BIN name no folders: start this with test/interop/run.sh")
	}
	ca, err := certs.NewCA("interop")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, dir: t.TempDir(), ca: ca}
	leaf, err := ca.Issue(certs.Leaf{CommonName: "kubernetes", Hosts: []string{"127.0.0.1", "localhost", "10.32.0.1", "kubernetes.default.svc"}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"ca.pem": ca.PEM, "server.pem": leaf.CertPEM, "server-key.pem": leaf.KeyPEM,
		"sa-key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"sa.pem":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"encryption.yaml": []byte(`kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
- resources: [secrets]
  providers: [{aescbc: {keys: [{name: key1, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}}, {identity: {}}]
`),
	} {
		if err := os.WriteFile(l.file(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.start(filepath.Join(os.Getenv("PEERS"), "etcd"), "--name=lab", "--data-dir="+l.file("etcd"), "--listen-client-urls="+etcdURL,
		"--advertise-client-urls="+etcdURL, "--listen-peer-urls="+peerURL, "--initial-advertise-peer-urls="+peerURL,
		"--initial-cluster=lab="+peerURL, "--log-level=warn")
	return l
}

func (l *lab) file(name string) string { return filepath.Join(l.dir, name) }

// start runs a program until the test ends, with its output in a log, and returns how to stop it earlier.
func (l *lab) start(program string, args ...string) (stop func()) {
	l.t.Helper()
	log, err := os.OpenFile(l.log(program), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command(program, args...) //nolint:noctx // stopped below
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cmd.Process.Signal(syscall.SIGTERM)                                   //nolint:errcheck // it may have ended
		kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() }) //nolint:errcheck // likewise
		cmd.Wait()                                                            //nolint:errcheck // likewise
		kill.Stop()
		log.Close() //nolint:errcheck // nothing is lost
	}
	l.t.Cleanup(stop)
	return stop
}

func (l *lab) log(program string) string { return l.file(filepath.Base(program) + ".log") }

// apiserver starts one of the two on the lab's etcd and waits until it is ready.
func (l *lab) apiserver(upstream bool) (stop func()) {
	l.t.Helper()
	program := filepath.Join(os.Getenv("BIN"), "hardway-apiserver")
	if upstream {
		program = filepath.Join(os.Getenv("PEERS"), "kube-apiserver")
	}
	stop = l.start(program, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=6444", "--etcd-servers="+etcdURL,
		"--client-ca-file="+l.file("ca.pem"), "--tls-cert-file="+l.file("server.pem"), "--tls-private-key-file="+l.file("server-key.pem"),
		"--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.32.0.0/24", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+l.file("sa.pem"), "--service-account-signing-key-file="+l.file("sa-key.pem"),
		"--encryption-provider-config="+l.file("encryption.yaml"),
		"--requestheader-client-ca-file="+l.file("ca.pem"), "--requestheader-allowed-names=front-proxy", "--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-")
	client, err := rest.HTTPClientFor(l.config("admin", "system:masters"))
	if err != nil {
		l.t.Fatal(err)
	}
	l.eventually("/readyz of "+program, 3*time.Minute, func() bool {
		req, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, "https://"+address+"/readyz", nil)
		if err != nil {
			l.t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return stop
}

func (l *lab) eventually(what string, within time.Duration, ok func() bool) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			l.t.Fatalf("not within %s: %s\n%s", within, what, l.tails())
		case <-tick.C:
		}
	}
}

// tails are the ends of all logs.
func (l *lab) tails() string {
	var out strings.Builder
	logs, _ := filepath.Glob(l.file("*.log"))
	for _, path := range logs {
		text, _ := os.ReadFile(path)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		out.WriteString(filepath.Base(path) + ":\n" + strings.Join(lines[max(0, len(lines)-15):], "\n") + "\n")
	}
	return out.String()
}

func (l *lab) config(user string, groups ...string) *rest.Config {
	l.t.Helper()
	leaf, err := l.ca.Issue(certs.Leaf{CommonName: user, Organization: groups})
	if err != nil {
		l.t.Fatal(err)
	}
	return &rest.Config{Host: "https://" + address, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: l.ca.PEM, CertData: leaf.CertPEM, KeyData: leaf.KeyPEM}}
}

// kubeconfig is a file for a user.
func (l *lab) kubeconfig(user string, groups ...string) string {
	l.t.Helper()
	cfg := l.config(user, groups...)
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthorityData: cfg.CAData}
	c.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: cfg.CertData, ClientKeyData: cfg.KeyData}
	c.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	path := l.file(strings.ReplaceAll(user, ":", "-") + ".kubeconfig")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		l.t.Fatal(err)
	}
	return path
}

func quantity(text string) resource.Quantity { return resource.MustParse(text) }
