package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
)

// Want is the certificate that a node wants to have.
type Want struct {
	Signer string
	Usages []certificatesv1.KeyUsage
	Node   string
	IPs    []string // empty for a client
}

// Client is the certificate with which a node asks the apiserver.
func Client(node string) Want {
	return Want{Signer: certificatesv1.KubeAPIServerClientKubeletSignerName, Node: node,
		Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}}
}

// Serving is the certificate with which a node answers on port 10250.
func Serving(node string, ips []string) Want {
	return Want{Signer: certificatesv1.KubeletServingSignerName, Node: node, IPs: ips,
		Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}}
}

func (w Want) subject() pkix.Name {
	return pkix.Name{CommonName: "system:node:" + w.Node, Organization: []string{"system:nodes"}}
}

// request makes a new key and the request for a certificate of it, both in PEM.
func (w Want) request() (key, csr []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	t := x509.CertificateRequest{Subject: w.subject()}
	if len(w.IPs) > 0 {
		t.DNSNames = []string{w.Node}
		for _, ip := range w.IPs {
			t.IPAddresses = append(t.IPAddresses, net.ParseIP(ip))
		}
	}
	signed, err := x509.CreateCertificateRequest(rand.Reader, &t, k)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: signed}), nil
}

// Due says when a certificate must be replaced, for a node that takes the share at (0 to 1) of the time that there is
// for it: not all nodes of a cluster ask at once. A certificate that is not what is wanted is due at once.
func (w Want) Due(c *x509.Certificate, at float64) time.Time {
	if c == nil || c.Subject.CommonName != w.subject().CommonName {
		return time.Time{}
	}
	for _, ip := range w.IPs {
		if !slices.ContainsFunc(c.IPAddresses, net.ParseIP(ip).Equal) {
			return time.Time{}
		}
	}
	life := c.NotAfter.Sub(c.NotBefore)
	return c.NotBefore.Add(time.Duration(float64(life) * (0.7 + 0.2*at)))
}

// Load reads the certificate of a file that holds it and its key; nil when there is none, or none that can be used.
func Load(file string) *x509.Certificate {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return parse(data)
}

// parse returns the first certificate in PEM data.
func parse(data []byte) *x509.Certificate {
	for len(data) > 0 {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return nil
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil
		}
		return c
	}
	return nil
}

// store replaces the file in one step, flushed: after a power failure a node must still be able to prove who it is.
func store(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("store certificate: %w", err)
	}
	f, err := os.OpenFile(file+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("store certificate: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("store certificate %s: %w", file, err)
	}
	return nil
}
