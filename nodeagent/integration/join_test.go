package integration

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/client"
)

// TestJoin starts an agent that has nothing but a bootstrap kubeconfig: it asks for both its certificates, works when
// they are signed, and asks for none when it is started again.
func TestJoin(t *testing.T) {
	a := prepare(t)
	if err := os.Rename(a.path("kubeconfig"), a.path("bootstrap")); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(a.path("config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(config), "tlsCertFile: node.pem\ntlsPrivateKeyFile: node-key.pem\n", "serverTLSBootstrap: true\nrotateCertificates: true\n", 1)
	if err := os.WriteFile(a.path("config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a.extra = []string{"--bootstrap-kubeconfig=" + a.path("bootstrap")}
	a.launch()
	t.Cleanup(a.stop)
	a.eventually("the request for a client certificate", func(ctx context.Context) error {
		return a.signNext(ctx, certificatesv1.KubeAPIServerClientKubeletSignerName)
	})
	a.nodeReady()
	if err := a.listens(); err == nil {
		t.Error("the agent serves without a certificate")
	}
	a.eventually("the request for a serving certificate", func(ctx context.Context) error { return a.signNext(ctx, certificatesv1.KubeletServingSignerName) })
	a.eventually("the agent serves", func(context.Context) error { return a.listens() })
	c, err := tls.Dial("tcp", nodeIP+":10250", &tls.Config{RootCAs: a.roots(), ServerName: nodeIP, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	if name := c.ConnectionState().PeerCertificates[0].Subject.CommonName; name != "system:node:"+nodeName {
		t.Errorf("it serves as %s", name)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	a.kill()
	a.launch()
	a.eventually("the agent serves again", func(context.Context) error { return a.listens() })
	list, err := client.CertificateSigningRequests.List(t.Context(), a.api, "", metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 {
		t.Errorf("%d requests, %v", len(list.Items), err)
	}
}

func (a *agent) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.env.CA.PEM)
	return pool
}

// signNext approves and signs the request to a signer that waits for it, as the controllers do.
func (a *agent) signNext(ctx context.Context, signer string) error {
	list, err := client.CertificateSigningRequests.List(ctx, a.api, "", metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		r := &list.Items[i]
		if r.Spec.SignerName != signer || len(r.Status.Certificate) > 0 {
			continue
		}
		r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"}}
		if r, err = client.CertificateSigningRequests.Update(ctx, a.api, r, "approval"); err != nil {
			return err
		}
		if r.Status.Certificate, err = a.sign(r.Spec.Request); err != nil {
			return err
		}
		_, err = client.CertificateSigningRequests.Update(ctx, a.api, r, "status")
		return err
	}
	return fmt.Errorf("no request to %s", signer)
}

func (a *agent) sign(request []byte) ([]byte, error) {
	ca, err := tls.X509KeyPair(a.env.CA.PEM, a.env.CA.KeyPEM)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(request)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: csr.Subject, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.Leaf, csr.PublicKey, ca.PrivateKey)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}
