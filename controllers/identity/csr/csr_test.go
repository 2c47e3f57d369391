package csr

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/testenv/certs"
)

var now = time.Now().Truncate(time.Second)

// ask makes a request and reads it back, as it comes from the API.
func ask(t *testing.T, template x509.CertificateRequest) (*x509.CertificateRequest, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	r, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return r, data
}

func node(name string, names ...string) x509.CertificateRequest {
	return x509.CertificateRequest{Subject: pkix.Name{CommonName: nodePrefix + name, Organization: []string{nodesGroup}}, DNSNames: names}
}

func TestSigners(t *testing.T) {
	person := x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane", Organization: []string{"dev"}}}
	for name, c := range map[string]struct {
		signer  string
		request x509.CertificateRequest
		usages  []certificatesv1.KeyUsage
		problem string
	}{
		"client":                 {certificatesv1.KubeAPIServerClientSignerName, person, clientUsages, ""},
		"client as server":       {certificatesv1.KubeAPIServerClientSignerName, person, servingUsages, `usage "server auth" is not allowed`},
		"client without purpose": {certificatesv1.KubeAPIServerClientSignerName, person, clientUsages[:1], `usage "client auth" is missing`},
		"node":                   {certificatesv1.KubeAPIServerClientKubeletSignerName, node("a"), clientUsages, ""},
		"node with names":        {certificatesv1.KubeAPIServerClientKubeletSignerName, node("a", "a.example"), clientUsages, "no alternative names"},
		"person as node":         {certificatesv1.KubeAPIServerClientKubeletSignerName, person, clientUsages, "organization must be"},
		"serving":                {certificatesv1.KubeletServingSignerName, node("a", "a"), servingUsages, ""},
		"serving without names":  {certificatesv1.KubeletServingSignerName, node("a"), servingUsages, "needs a DNS or IP name"},
		"serving as client":      {certificatesv1.KubeletServingSignerName, node("a", "a"), clientUsages, "is not allowed"},
		"anything":               {legacyUnknown, person, servingUsages, ""},
	} {
		x, _ := ask(t, c.request)
		got := ""
		if err := signers[c.signer](x, c.usages); err != nil {
			got = err.Error()
		}
		if (c.problem == "") != (got == "") || !strings.Contains(got, c.problem) {
			t.Errorf("%s: %q, want %q", name, got, c.problem)
		}
	}
}

// TestSign: a certificate that its authority vouches for, no longer than allowed, and with no more than was asked for.
func TestSign(t *testing.T) {
	ca, err := certs.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a := authority{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")}
	write := func(file string, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(a.certFile, ca.PEM)
	if _, _, err := a.load(); err == nil {
		t.Error("an authority without a key was loaded")
	}
	write(a.keyFile, ca.KeyPEM)
	x, _ := ask(t, node("a"))
	out, err := a.sign(x, certificatesv1.CertificateSigningRequestSpec{
		SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName, Usages: clientUsages, ExpirationSeconds: new(int32(3600)),
	}, 24*time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(out)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if life := cert.NotAfter.Sub(now); life != time.Hour || cert.IsCA || cert.Subject.CommonName != nodePrefix+"a" {
		t.Errorf("%v, CA %v, %v", life, cert.IsCA, cert.Subject)
	}
	other, err := certs.NewCA("other")
	if err != nil {
		t.Fatal(err)
	}
	write(a.certFile, append(other.PEM, ca.PEM...)) // a new authority is about to come
	if cert, _, err := a.load(); err != nil || cert.Subject.CommonName != "test" {
		t.Errorf("%v, %v", cert, err)
	}
	write(a.certFile, ca.PEM)
	write(a.keyFile, other.KeyPEM)
	if _, err := a.sign(x, certificatesv1.CertificateSigningRequestSpec{}, time.Hour, now); err == nil {
		t.Error("signed with a key that is not the authority's")
	}
}

func TestApproval(t *testing.T) {
	host := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: "a"}, {Type: corev1.NodeInternalIP, Address: "10.0.0.7"},
	}}}
	serving := node("a", "a")
	serving.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 7)}
	foreign := node("a", "a", "kubernetes.default")
	for name, c := range map[string]struct {
		signer, user string
		request      x509.CertificateRequest
		usages       []certificatesv1.KeyUsage
		want         string
	}{
		"renewal":            {certificatesv1.KubeAPIServerClientKubeletSignerName, nodePrefix + "a", node("a"), clientUsages, "selfnodeclient nodeclient"},
		"first":              {certificatesv1.KubeAPIServerClientKubeletSignerName, "system:bootstrap:abcdef", node("a"), clientUsages, "nodeclient"},
		"person":             {certificatesv1.KubeAPIServerClientSignerName, "jane", node("a"), clientUsages, ""},
		"serving":            {certificatesv1.KubeletServingSignerName, nodePrefix + "a", serving, servingUsages, "serving"},
		"another's serving":  {certificatesv1.KubeletServingSignerName, nodePrefix + "b", serving, servingUsages, ""},
		"names of others":    {certificatesv1.KubeletServingSignerName, nodePrefix + "a", foreign, servingUsages, ""},
		"serving, no client": {certificatesv1.KubeletServingSignerName, nodePrefix + "a", serving, clientUsages, ""},
	} {
		x, data := ask(t, c.request)
		r := &request{Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: data, SignerName: c.signer, Username: c.user, Groups: []string{nodesGroup}, Usages: c.usages,
		}}
		var got []string
		for _, known := range recognizers {
			if known.matches(r, x) {
				got = append(got, known.subresource)
			}
		}
		if ownServing(r, x, host) {
			got = append(got, "serving")
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

func TestGoes(t *testing.T) {
	made := metav1.NewTime(now)
	for name, c := range map[string]struct {
		kind certificatesv1.RequestConditionType
		want time.Duration
	}{
		"pending": {"", 24 * time.Hour}, "approved": {certificatesv1.CertificateApproved, 2 * time.Hour}, "denied": {certificatesv1.CertificateDenied, 2 * time.Hour},
		"something else": {"StatusUpdate", 24 * time.Hour},
	} {
		r := &request{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: made}}
		if c.kind != "" {
			r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: c.kind, LastUpdateTime: metav1.NewTime(now.Add(time.Hour))}}
		}
		if got := goes(r).Sub(now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	r := &request{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: made}}
	r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateDenied}}
	if got := goes(r).Sub(now); got != keptPending {
		t.Errorf("a decision without a time: %v", got)
	}
}
