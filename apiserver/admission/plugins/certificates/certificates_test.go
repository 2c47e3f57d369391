package certificates

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/authz"
	kinds "hardway/apiserver/kinds/certificates"
	"hardway/apiserver/request"
)

type csr = certificatesv1.CertificateSigningRequest

// grants allows "verb name" on signers.
type grants []string

func (g grants) Authorize(_ context.Context, _ *request.UserInfo, info *request.Info) (authz.Decision, string, error) {
	for _, one := range g {
		if info.IsResource && info.Group == "certificates.k8s.io" && info.Resource == "signers" && one == info.Verb+" "+info.Name {
			return authz.Allow, "", nil
		}
	}
	return authz.NoOpinion, "", nil
}

func made(signer string, change func(*csr)) *csr {
	c := &csr{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signer}}
	if change != nil {
		change(c)
	}
	return c
}

func TestWhoMay(t *testing.T) {
	issued := func(c *csr) { c.Status.Certificate = []byte("x") }
	failed := func(c *csr) {
		c.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateFailed}}
	}
	for name, c := range map[string]struct {
		may    grants
		sub    string
		change func(*csr)
		want   string
	}{
		"approve":                 {grants{"approve a.com/x"}, "approval", nil, ""},
		"approve for the domain":  {grants{"approve a.com/*"}, "approval", nil, ""},
		"approve, may only sign":  {grants{"sign a.com/x"}, "approval", nil, `user not permitted to approve requests with signerName "a.com/x"`},
		"approve, another signer": {grants{"approve b.com/x"}, "approval", func(c *csr) { c.Spec.SignerName = "b.com/x" }, "not permitted to approve"},
		"sign":                    {grants{"sign a.com/x"}, "status", issued, ""},
		"sign for the domain":     {grants{"sign a.com/*"}, "status", issued, ""},
		"sign, may only approve":  {grants{"approve a.com/x"}, "status", issued, `user not permitted to sign requests with signerName "a.com/x"`},
		"say that it failed":      {nil, "status", failed, "not permitted to sign"},
		"a status without news":   {nil, "status", func(c *csr) { c.Labels = map[string]string{"a": "b"} }, ""},
		"labels":                  {nil, "", nil, ""},
	} {
		a := &admission.Attributes{
			Kind: kinds.CertificateSigningRequest, Operation: admission.Update, Subresource: c.sub, Name: "c",
			Old: made("a.com/x", nil), Object: made("a.com/x", c.change),
		}
		chain := admission.Chain{Approval{c.may}, Signing{c.may}, Subject{}}
		err := chain.Validate(t.Context(), a)
		if got := text(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestSubject(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	asking := func(organization string) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "me", Organization: []string{"a", organization}}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	for name, c := range map[string]struct {
		signer string
		asks   []byte
		want   string
	}{
		"an ordinary group":           {certificatesv1.KubeAPIServerClientSignerName, asking("dev"), ""},
		"masters":                     {certificatesv1.KubeAPIServerClientSignerName, asking("system:masters"), "signer with system:masters group is not allowed"},
		"masters, of another signer":  {"a.com/x", asking("system:masters"), ""},
		"not a request":               {certificatesv1.KubeAPIServerClientSignerName, []byte("x"), "failed to parse CSR"},
		"not a request, other signer": {"a.com/x", []byte("x"), ""},
	} {
		obj := made(c.signer, func(o *csr) { o.Spec.Request = c.asks })
		err := Subject{}.Validate(t.Context(), &admission.Attributes{Kind: kinds.CertificateSigningRequest, Operation: admission.Create, Object: obj})
		if got := text(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
