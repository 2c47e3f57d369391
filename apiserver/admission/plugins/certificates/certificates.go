// Package certificates guards requests for certificates: who approves one must be allowed to approve for its signer, who
// writes a certificate into it must be allowed to sign for that signer, and nobody gets a certificate in the group that
// may do everything.
//
// Permission is asked for the verbs approve and sign, on the resource "signers" of the group certificates.k8s.io, first
// with the signer's name and then with "<its domain>/*".
package certificates

import (
	"bytes"
	"context"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"hardway/apiserver/admission"
	"hardway/apiserver/authz"
	kinds "hardway/apiserver/kinds/certificates"
	"hardway/apiserver/request"
)

// Approval guards approving and denying.
type Approval struct{ Authorizer authz.Authorizer }

// Name is upstream's.
func (Approval) Name() string { return "CertificateApproval" }

// Validate asks about the signer that the request had before, whatever was sent.
func (p Approval) Validate(ctx context.Context, a *admission.Attributes) error {
	csr, ok := a.Old.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Operation != admission.Update || a.Subresource != "approval" {
		return nil
	}
	if !may(ctx, p.Authorizer, "approve", csr.Spec.SignerName) {
		return admission.Forbid(a, "user not permitted to approve requests with signerName %q", csr.Spec.SignerName)
	}
	return nil
}

// Signing guards the status: the certificate, and the conditions that say why there is none.
type Signing struct{ Authorizer authz.Authorizer }

// Name is upstream's.
func (Signing) Name() string { return "CertificateSigning" }

// Validate asks about the signer.
func (p Signing) Validate(ctx context.Context, a *admission.Attributes) error {
	old, ok := a.Old.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Operation != admission.Update || a.Subresource != "status" {
		return nil
	}
	now, _ := a.Object.(*certificatesv1.CertificateSigningRequest)
	if now != nil && bytes.Equal(old.Status.Certificate, now.Status.Certificate) && equality.Semantic.DeepEqual(old.Status.Conditions, now.Status.Conditions) {
		return nil
	}
	if !may(ctx, p.Authorizer, "sign", old.Spec.SignerName) {
		return admission.Forbid(a, "user not permitted to sign requests with signerName %q", old.Spec.SignerName)
	}
	return nil
}

// Subject refuses requests for client certificates of system:masters.
type Subject struct{}

// Name is upstream's.
func (Subject) Name() string { return "CertificateSubjectRestriction" }

// Validate looks into the request.
func (Subject) Validate(_ context.Context, a *admission.Attributes) error {
	csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Operation != admission.Create || a.Subresource != "" || csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	asked, err := kinds.ParseRequest(csr.Spec.Request)
	if err != nil {
		return admission.Forbid(a, "failed to parse CSR: %w", err)
	}
	if slices.Contains(asked.Subject.Organization, request.Masters) {
		return admission.Forbid(a, "use of %s signer with %s group is not allowed", csr.Spec.SignerName, request.Masters)
	}
	return nil
}

// may says whether the user of the request may do something for a signer.
func may(ctx context.Context, authorizer authz.Authorizer, verb, signer string) bool {
	names := []string{signer}
	if domain, _, has := strings.Cut(signer, "/"); has {
		names = append(names, domain+"/*")
	}
	for _, name := range names {
		d, _, err := authorizer.Authorize(ctx, request.User(ctx), &request.Info{
			IsResource: true, Verb: verb, Group: certificatesv1.GroupName, Version: "*", Resource: "signers", Name: name,
		})
		if err == nil && d == authz.Allow {
			return true
		}
	}
	return false
}
