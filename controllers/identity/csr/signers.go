package csr

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
)

// Groups and names of nodes.
const (
	nodesGroup = "system:nodes"
	nodePrefix = "system:node:"
)

var (
	clientUsages  = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageClientAuth}
	servingUsages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth}
)

// signers are the built-in ones and what each demands of a request.
var signers = map[string]func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error{
	certificatesv1.KubeAPIServerClientSignerName:        checkClient,
	certificatesv1.KubeAPIServerClientKubeletSignerName: checkNodeClient,
	certificatesv1.KubeletServingSignerName:             checkServing,
	legacyUnknown:                                       func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error { return nil },
}

// legacyUnknown signs anything that a person has approved.
const legacyUnknown = "kubernetes.io/legacy-unknown"

func checkClient(_ *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	return within(usages, clientUsages, certificatesv1.UsageClientAuth)
}

func checkNodeClient(r *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := checkNode(r); err != nil {
		return err
	}
	if len(r.DNSNames)+len(r.IPAddresses)+len(r.EmailAddresses)+len(r.URIs) > 0 {
		return errors.New("a node's client certificate has no alternative names")
	}
	return within(usages, clientUsages, certificatesv1.UsageClientAuth)
}

func checkServing(r *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch err := checkNode(r); {
	case err != nil:
		return err
	case len(r.EmailAddresses)+len(r.URIs) > 0:
		return errors.New("a node's serving certificate has no email or URI names")
	case len(r.DNSNames)+len(r.IPAddresses) == 0:
		return errors.New("a node's serving certificate needs a DNS or IP name")
	}
	return within(usages, servingUsages, certificatesv1.UsageServerAuth)
}

func checkNode(r *x509.CertificateRequest) error {
	if !slices.Equal(r.Subject.Organization, []string{nodesGroup}) {
		return fmt.Errorf("the organization must be %s alone, not %q", nodesGroup, r.Subject.Organization)
	}
	if name, ok := strings.CutPrefix(r.Subject.CommonName, nodePrefix); !ok || name == "" {
		return fmt.Errorf("the common name must begin with %s, not %q", nodePrefix, r.Subject.CommonName)
	}
	return nil
}

// within checks that usages are among those allowed and that one is there.
func within(usages, allowed []certificatesv1.KeyUsage, must certificatesv1.KeyUsage) error {
	for _, u := range usages {
		if !slices.Contains(allowed, u) {
			return fmt.Errorf("usage %q is not allowed; allowed are %q", u, allowed)
		}
	}
	if !slices.Contains(usages, must) {
		return fmt.Errorf("usage %q is missing", must)
	}
	return nil
}

// parse reads the request in PEM form and checks that whoever made it has the key.
func parse(data []byte) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("it is not one PEM block of type CERTIFICATE REQUEST")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return r, r.CheckSignature()
}

// authority signs. Its files are read again for each certificate, so that a renewed one is used at once.
type authority struct{ certFile, keyFile string }

// load returns the certificate of the key: while an authority is replaced its file holds more than one.
func (a authority) load() (*x509.Certificate, crypto.Signer, error) {
	certPEM, err := os.ReadFile(a.certFile)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(a.keyFile)
	if err != nil {
		return nil, nil, err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", a.keyFile, err)
	}
	public, ok := key.Public().(interface {
		Equal(other crypto.PublicKey) bool
	})
	for block, rest := pem.Decode(certPEM); ok && block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", a.certFile, err)
		}
		if public.Equal(cert.PublicKey) {
			return cert, key, nil
		}
	}
	return nil, nil, fmt.Errorf("%s holds no certificate of the key %s", a.certFile, a.keyFile)
}

func parseKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue // parameters of a curve
		}
		if err != nil {
			return nil, err
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	return nil, errors.New("it holds no private key")
}

// backdate covers clocks that are behind ours.
const backdate = 5 * time.Minute

// sign makes the certificate: as long as was asked for, but not longer than the limit and than the authority lives.
func (a authority) sign(r *x509.CertificateRequest, spec certificatesv1.CertificateSigningRequestSpec, limit time.Duration, now time.Time) ([]byte, error) {
	ca, key, err := a.load()
	if err != nil {
		return nil, fmt.Errorf("load the signing authority: %w", err)
	}
	life := limit
	if s := spec.ExpirationSeconds; s != nil {
		life = min(life, max(time.Duration(*s)*time.Second, 10*time.Minute))
	}
	end := now.Add(life)
	if end.After(ca.NotAfter) {
		end = ca.NotAfter
	}
	if !now.Before(end) {
		return nil, fmt.Errorf("the signing authority ended at %s", ca.NotAfter.Format(time.RFC3339))
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: r.Subject.CommonName, Organization: r.Subject.Organization},
		DNSNames: r.DNSNames, IPAddresses: r.IPAddresses, EmailAddresses: r.EmailAddresses, URIs: r.URIs,
		NotBefore: now.Add(-backdate), NotAfter: end, BasicConstraintsValid: true,
	}
	if spec.SignerName == legacyUnknown {
		template.Subject = r.Subject
	}
	for _, u := range spec.Usages {
		if bit, ok := keyUsages[u]; ok {
			template.KeyUsage |= bit
		} else if ext, ok := extendedUsages[u]; ok {
			template.ExtKeyUsage = append(template.ExtKeyUsage, ext)
		} else {
			return nil, fmt.Errorf("usage %q is unknown", u)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, r.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

var keyUsages = map[certificatesv1.KeyUsage]x509.KeyUsage{
	certificatesv1.UsageSigning: x509.KeyUsageDigitalSignature, certificatesv1.UsageDigitalSignature: x509.KeyUsageDigitalSignature,
	certificatesv1.UsageContentCommitment: x509.KeyUsageContentCommitment, certificatesv1.UsageKeyEncipherment: x509.KeyUsageKeyEncipherment,
	certificatesv1.UsageKeyAgreement: x509.KeyUsageKeyAgreement, certificatesv1.UsageDataEncipherment: x509.KeyUsageDataEncipherment,
	certificatesv1.UsageEncipherOnly: x509.KeyUsageEncipherOnly, certificatesv1.UsageDecipherOnly: x509.KeyUsageDecipherOnly,
	// Certificates that sign others are not made: "cert sign" and "crl sign" are unknown here.
}

var extendedUsages = map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
	certificatesv1.UsageAny: x509.ExtKeyUsageAny, certificatesv1.UsageServerAuth: x509.ExtKeyUsageServerAuth,
	certificatesv1.UsageClientAuth: x509.ExtKeyUsageClientAuth, certificatesv1.UsageCodeSigning: x509.ExtKeyUsageCodeSigning,
	certificatesv1.UsageEmailProtection: x509.ExtKeyUsageEmailProtection, certificatesv1.UsageSMIME: x509.ExtKeyUsageEmailProtection,
	certificatesv1.UsageIPsecEndSystem: x509.ExtKeyUsageIPSECEndSystem, certificatesv1.UsageIPsecTunnel: x509.ExtKeyUsageIPSECTunnel,
	certificatesv1.UsageIPsecUser: x509.ExtKeyUsageIPSECUser, certificatesv1.UsageTimestamping: x509.ExtKeyUsageTimeStamping,
	certificatesv1.UsageOCSPSigning: x509.ExtKeyUsageOCSPSigning, certificatesv1.UsageMicrosoftSGC: x509.ExtKeyUsageMicrosoftServerGatedCrypto,
	certificatesv1.UsageNetscapeSGC: x509.ExtKeyUsageNetscapeServerGatedCrypto,
}
