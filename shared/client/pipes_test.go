package client

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"hardway/shared/testenv/certs"
)

// TestPipesFollowRenewal: pipes are used by daemons, which read their settings with Config, and have the certificate that the file holds at the moment.
func TestPipesFollowRenewal(t *testing.T) {
	ca, err := certs.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	write := func(user string) {
		leaf, err := ca.Issue(certs.Leaf{CommonName: user})
		if err != nil {
			t.Fatal(err)
		}
		c := clientcmdapi.NewConfig()
		c.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:6443", CertificateAuthorityData: ca.PEM}
		c.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: leaf.CertPEM, ClientKeyData: leaf.KeyPEM}
		c.Contexts["x"], c.CurrentContext = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}, "x"
		if err := clientcmd.WriteToFile(*c, path); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	cfg, err := Config(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	p := newPipes(cfg)
	if !p.usable {
		t.Fatal("a daemon's settings are not for pipes")
	}
	who := func() string {
		settings, err := p.tls()
		if err != nil {
			t.Fatal(err)
		}
		own, err := settings.GetClientCertificate(&tls.CertificateRequestInfo{})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(own.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	if who() != "first" {
		t.Errorf("pipes are those of %s", who())
	}
	write("second")
	for end := time.Now().Add(20 * time.Second); who() != "second"; {
		if time.Now().After(end) {
			t.Fatalf("pipes are still those of %s", who())
		}
	}
}
