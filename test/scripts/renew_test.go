package scripts

import (
	"bytes"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// leaves are the certificates that a CA signs, by file; each with a name that must survive.
var leaves = map[string]string{"admin": "", "kubernetes": "10.240.0.10", "worker-0": "10.240.0.20", "kube-scheduler": "localhost"}

// trusted checks that every leaf is signed by one of the CAs in ca.pem and still names what it did.
func trusted(t *testing.T, dir string) {
	t.Helper()
	roots := x509.NewCertPool()
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(text)
	for leaf, host := range leaves {
		cert := certificate(t, filepath.Join(dir, leaf+".pem"))
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", leaf, err)
		}
	}
}

// changed tells which leaves differ from before.
func changed(t *testing.T, before map[string][]byte, dir string) int {
	t.Helper()
	now, count := snapshot(t, dir), 0
	for leaf := range leaves {
		if !bytes.Equal(before[leaf+".pem"], now[leaf+".pem"]) {
			count++
		}
	}
	return count
}

func TestRenewAndReplaceTheCA(t *testing.T) {
	dir := t.TempDir()
	sh(t, "certs.sh", "--node", "worker-0=10.240.0.20", "--address", "10.240.0.10", dir)
	before := snapshot(t, dir)
	sh(t, "certs.sh", "renew", dir)
	trusted(t, dir)
	if n := changed(t, before, dir); n != len(leaves) {
		t.Errorf("%d of %d certificates were renewed", n, len(leaves))
	}
	after := snapshot(t, dir)
	for _, kept := range []string{"ca.pem", "ca-key.pem", "front-proxy-ca.pem", "service-account.pem", "service-account-key.pem"} {
		if !bytes.Equal(before[kept], after[kept]) {
			t.Errorf("renewing replaced %s", kept)
		}
	}

	for _, step := range []struct {
		name   string
		leaves int // that change
		cas    int // trusted afterwards
	}{{"prepare", 0, 2}, {"switch", len(leaves), 2}, {"finish", 0, 1}} {
		before := snapshot(t, dir)
		sh(t, "certs.sh", "replace-ca", step.name, dir)
		trusted(t, dir)
		if n := changed(t, before, dir); n != step.leaves {
			t.Errorf("%s: %d certificates changed, want %d", step.name, n, step.leaves)
		}
		if n := bytes.Count(snapshot(t, dir)["ca.pem"], []byte("BEGIN")); n != step.cas {
			t.Errorf("%s: %d CAs are trusted, want %d", step.name, n, step.cas)
		}
		// Twice is refused, or the second new CA would leave nobody who knows the first.
		if out, err := exec.CommandContext(t.Context(), "../../scripts/certs.sh", "replace-ca", step.name, dir).CombinedOutput(); err == nil {
			t.Errorf("%s can be done twice: %s", step.name, out)
		}
	}
	if bytes.Equal(before["ca.pem"], snapshot(t, dir)["ca.pem"]) {
		t.Error("the CA is still the old one")
	}
}
