package scripts

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

// sh runs a script of the repository.
func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join("../../scripts", name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return cert
}

// snapshot reads all files of a folder.
func snapshot(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, path := range paths {
		if files[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	sh(t, "certs.sh", "--node", "worker-0=10.240.0.20", "--node", "worker-1=10.240.0.21", "--address", "10.240.0.10", "--address", "api.example.org", dir)

	roots := x509.NewCertPool()
	roots.AddCert(certificate(t, filepath.Join(dir, "ca.pem")))
	client, server := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	for _, row := range []struct {
		file, name, group string
		usages            []x509.ExtKeyUsage
		hosts             []string
	}{
		{"admin", "admin", "system:masters", []x509.ExtKeyUsage{client}, nil},
		{"kube-controller-manager", "system:kube-controller-manager", "system:kube-controller-manager", []x509.ExtKeyUsage{client, server}, []string{"localhost", "127.0.0.1"}},
		{"kube-scheduler", "system:kube-scheduler", "system:kube-scheduler", []x509.ExtKeyUsage{client, server}, []string{"localhost", "127.0.0.1"}},
		{"kube-proxy", "system:kube-proxy", "system:node-proxier", []x509.ExtKeyUsage{client}, nil},
		{"hardway-dns", "system:hardway-dns", "", []x509.ExtKeyUsage{client}, nil},
		{"hardway-ingress", "system:hardway-ingress", "", []x509.ExtKeyUsage{client}, nil},
		{"kube-apiserver-kubelet-client", "kube-apiserver-kubelet-client", "", []x509.ExtKeyUsage{client}, nil},
		{"worker-0", "system:node:worker-0", "system:nodes", []x509.ExtKeyUsage{client, server}, []string{"worker-0", "10.240.0.20"}},
		{"worker-1", "system:node:worker-1", "system:nodes", []x509.ExtKeyUsage{client, server}, []string{"worker-1", "10.240.0.21"}},
		{"kubernetes", "kubernetes", "Kubernetes", []x509.ExtKeyUsage{client, server}, []string{
			"10.32.0.1", "127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local", "10.240.0.10", "api.example.org"}},
	} {
		t.Run(row.file, func(t *testing.T) {
			path := filepath.Join(dir, row.file)
			cert := certificate(t, path+".pem")
			if cert.Subject.CommonName != row.name || strings.Join(cert.Subject.Organization, ",") != row.group {
				t.Errorf("subject %s, want CN %q O %q", cert.Subject, row.name, row.group)
			}
			for _, usage := range row.usages {
				if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
					t.Errorf("usage %d: %v", usage, err)
				}
			}
			if len(cert.ExtKeyUsage) != len(row.usages) {
				t.Errorf("usages %v, want no more than %v", cert.ExtKeyUsage, row.usages)
			}
			for _, host := range row.hosts {
				if err := cert.VerifyHostname(host); err != nil {
					t.Error(err)
				}
			}
			pair, err := tls.LoadX509KeyPair(path+".pem", path+"-key.pem")
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := pair.PrivateKey.(*ecdsa.PrivateKey); !ok {
				t.Errorf("key of type %T, want ECDSA", pair.PrivateKey)
			}
			if info, err := os.Stat(path + "-key.pem"); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the key file has mode %v, %v", info.Mode(), err)
			}
		})
	}

	status := sh(t, "certs.sh", "status", dir)
	for _, want := range []string{"worker-1", "/O=system:nodes/CN=system:node:worker-1", "in 36", "service-account"} {
		if !strings.Contains(status, want) {
			t.Errorf("certs.sh status lacks %q:\n%s", want, status)
		}
	}
}

func TestCertificatesAreKept(t *testing.T) {
	dir := t.TempDir()
	sh(t, "certs.sh", "--node", "n=10.0.0.1", dir)
	before := snapshot(t, dir)

	if out := sh(t, "certs.sh", "--node", "n=10.0.0.1", dir); out != "" {
		t.Errorf("the second run did something: %s", out)
	}
	for name, now := range snapshot(t, dir) {
		if !bytes.Equal(now, before[name]) {
			t.Errorf("%s changed", name)
		}
	}

	// A node's new address, and an API server's, are new certificates; the rest stays.
	sh(t, "certs.sh", "--node", "n=10.0.0.2", "--address", "10.0.0.2", dir)
	var changed []string
	for name, now := range snapshot(t, dir) {
		if !bytes.Equal(now, before[name]) {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	if want := []string{"kubernetes-key.pem", "kubernetes.pem", "n-key.pem", "n.pem"}; !slices.Equal(changed, want) {
		t.Errorf("changed %v, want %v", changed, want)
	}
}

func TestCertificatesAreRenewed(t *testing.T) {
	dir := t.TempDir()
	sh(t, "certs.sh", "--days", "20", dir)
	before := snapshot(t, dir)
	sh(t, "certs.sh", "--days", "90", dir)
	after := snapshot(t, dir)
	for _, name := range []string{"ca.pem", "ca-key.pem", "service-account-key.pem"} {
		if !bytes.Equal(before[name], after[name]) {
			t.Errorf("%s was replaced", name)
		}
	}
	for _, name := range []string{"admin", "kubernetes", "kube-proxy"} {
		if left := time.Until(certificate(t, filepath.Join(dir, name+".pem")).NotAfter); left < 80*24*time.Hour {
			t.Errorf("%s, which had 20 days left, was not renewed: %s", name, left)
		}
	}
}

func TestRSA(t *testing.T) {
	dir := t.TempDir()
	sh(t, "certs.sh", "--key", "rsa", dir)
	for _, name := range []string{"admin", "kubernetes", "service-account"} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := pair.PrivateKey.(*rsa.PrivateKey); !ok || key.N.BitLen() != 2048 {
			t.Errorf("%s has a key of type %T", name, pair.PrivateKey)
		}
	}
}

func TestKubeconfigs(t *testing.T) {
	pki, out := t.TempDir(), t.TempDir()
	sh(t, "certs.sh", "--node", "n=10.0.0.1", pki)
	args := []string{"--server", "https://10.0.0.1:6443", "--node", "n", pki, out}
	sh(t, "kubeconfigs.sh", args...)
	for file, user := range map[string]string{
		"admin": "admin", "n": "system:node:n", "kube-proxy": "system:kube-proxy", "hardway-dns": "system:hardway-dns", "hardway-ingress": "system:hardway-ingress",
		"kube-scheduler": "system:kube-scheduler", "kube-controller-manager": "system:kube-controller-manager",
	} {
		path := filepath.Join(out, file+".kubeconfig")
		raw, err := clientcmd.LoadFromFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if raw.AuthInfos[user] == nil || raw.Contexts[raw.CurrentContext].AuthInfo != user {
			t.Errorf("%s is not for user %s", path, user)
		}
		config, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tls.X509KeyPair(config.CertData, config.KeyData); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		ca, err := os.ReadFile(filepath.Join(pki, "ca.pem"))
		server := "https://10.0.0.1:6443"
		if file == "kube-scheduler" || file == "kube-controller-manager" {
			server = "https://127.0.0.1:6443" // they live beside an API server
		}
		if err != nil || !bytes.Equal(config.CAData, ca) || config.Host != server {
			t.Errorf("%s: server %s, or another CA, %v", path, config.Host, err)
		}
	}

	before, err := os.Stat(filepath.Join(out, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	sh(t, "kubeconfigs.sh", args...)
	if after, err := os.Stat(filepath.Join(out, "admin.kubeconfig")); err != nil || !after.ModTime().Equal(before.ModTime()) || after.Mode().Perm() != 0o600 {
		t.Errorf("an unchanged kubeconfig was written again, or others may read it: %v %v", after.Mode(), err)
	}
}
