package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

var usages = []certificatesv1.KeyUsage{
	certificatesv1.UsageAny, certificatesv1.UsageCRLSign, certificatesv1.UsageCertSign, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
	certificatesv1.UsageContentCommitment, certificatesv1.UsageDataEncipherment, certificatesv1.UsageDecipherOnly, certificatesv1.UsageDigitalSignature,
	certificatesv1.UsageEmailProtection, certificatesv1.UsageEncipherOnly, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
	certificatesv1.UsageIPsecUser, certificatesv1.UsageKeyAgreement, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageMicrosoftSGC,
	certificatesv1.UsageNetscapeSGC, certificatesv1.UsageOCSPSigning, certificatesv1.UsageSMIME, certificatesv1.UsageServerAuth,
	certificatesv1.UsageSigning, certificatesv1.UsageTimestamping,
}

// leastSeconds is the shortest life that can be asked for.
const leastSeconds = 600

func validate(c *csr) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if _, err := ParseRequest(c.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(spec.Child("request"), c.Spec.Request, err.Error()))
	} else if parsed, _ := ParseRequest(c.Spec.Request); parsed.CheckSignature() != nil {
		errs = append(errs, field.Invalid(spec.Child("request"), c.Spec.Request, parsed.CheckSignature().Error()))
	}
	if len(c.Spec.Usages) == 0 {
		errs = append(errs, field.Required(spec.Child("usages"), "usages must be provided"))
	}
	seen := map[certificatesv1.KeyUsage]bool{}
	for i, u := range c.Spec.Usages {
		at := spec.Child("usages").Index(i)
		if !slices.Contains(usages, u) {
			errs = append(errs, field.NotSupported(at, u, usages))
		}
		if seen[u] {
			errs = append(errs, field.Duplicate(at, u))
		}
		seen[u] = true
	}
	errs = append(errs, validateSigner(c.Spec.SignerName, spec.Child("signerName"))...)
	if n := c.Spec.ExpirationSeconds; n != nil && *n < leastSeconds {
		errs = append(errs, field.Invalid(spec.Child("expirationSeconds"), *n, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	errs = append(errs, validateConditions(c, nil)...)
	return errs
}

// validateSigner wants a domain, a slash and a path.
func validateSigner(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, rest, found := strings.Cut(name, "/")
	if !found || rest == "" {
		return field.ErrorList{field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	errs := check.Each(path, domain, validation.IsDNS1123Subdomain(domain))
	if !strings.Contains(domain, ".") {
		errs = append(errs, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	for part := range strings.SplitSeq(rest, ".") {
		errs = append(errs, check.Each(path, rest, validation.IsDNS1123Subdomain(part))...)
	}
	return errs
}

var decided = []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied}

// validateConditions wants types, no type twice, the statuses that a decision may have, and one decision at most.
func validateConditions(c, old *csr) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("status", "conditions")
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, have := range c.Status.Conditions {
		at := path.Index(i)
		if have.Type == "" {
			errs = append(errs, field.Required(at.Child("type"), ""))
			continue
		}
		if seen[have.Type] && (old == nil || len(c.Status.Conditions) != len(old.Status.Conditions)) {
			errs = append(errs, field.Duplicate(at.Child("type"), have.Type))
		}
		seen[have.Type] = true
		always := have.Type == certificatesv1.CertificateApproved || have.Type == certificatesv1.CertificateDenied || have.Type == certificatesv1.CertificateFailed
		switch {
		case have.Status == "":
			errs = append(errs, field.Required(at.Child("status"), ""))
		case always && have.Status != corev1.ConditionTrue:
			errs = append(errs, field.NotSupported(at.Child("status"), have.Status, []corev1.ConditionStatus{corev1.ConditionTrue}))
		default:
			errs = append(errs, check.Among(have.Status, at.Child("status"), corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown)...)
		}
	}
	if seen[certificatesv1.CertificateApproved] && seen[certificatesv1.CertificateDenied] {
		errs = append(errs, field.Invalid(path, "Approved,Denied", "Approved and Denied conditions are mutually exclusive"))
	}
	return errs
}

// validateStatus: signers write certificates and failures, and leave decisions alone.
func validateStatus(c, old *csr) field.ErrorList {
	errs := validateConditions(c, old)
	path := field.NewPath("status", "conditions")
	now, was := conditionsOf(c, decided...), conditionsOf(old, decided...)
	for _, t := range decided {
		_, is := now[t]
		_, before := was[t]
		switch {
		case is && !before:
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not add a condition of type %q", t)))
		case before && !is:
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not remove a condition of type %q", t)))
		}
	}
	certificate := field.NewPath("status", "certificate")
	if len(old.Status.Certificate) > 0 && !bytes.Equal(c.Status.Certificate, old.Status.Certificate) {
		errs = append(errs, field.Invalid(certificate, c.Status.Certificate, "updates may not modify certificate content"))
	}
	if len(c.Status.Certificate) > 0 {
		errs = append(errs, validateCertificate(c.Status.Certificate, certificate)...)
	}
	return errs
}

// validateApproval: a decision says nothing but the conditions, and is for good.
func validateApproval(c, old *csr) field.ErrorList {
	errs := validateConditions(c, old)
	path := field.NewPath("status", "conditions")
	now, was := conditionsOf(c, append(slices.Clone(decided), certificatesv1.CertificateFailed)...), conditionsOf(old, append(slices.Clone(decided), certificatesv1.CertificateFailed)...)
	for _, t := range slices.Sorted(maps.Keys(was)) {
		if _, is := now[t]; !is {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not remove a condition of type %q", t)))
		}
	}
	return errs
}

// validateCertificate wants PEM blocks of certificates, and nothing between them.
func validateCertificate(data []byte, path *field.Path) field.ErrorList {
	invalid := func(text string) field.ErrorList {
		return field.ErrorList{field.Invalid(path, "<certificate data>", text)}
	}
	found := false
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		found = true
		if block.Type != "CERTIFICATE" {
			return invalid("only CERTIFICATE PEM blocks are allowed, found " + fmt.Sprintf("%q", block.Type))
		}
		if len(block.Headers) > 0 {
			return invalid("no PEM block headers are permitted")
		}
		if certs, err := x509.ParseCertificates(block.Bytes); err != nil {
			return invalid(err.Error())
		} else if len(certs) == 0 {
			return invalid("found CERTIFICATE PEM block containing 0 certificates")
		}
	}
	if !found {
		return invalid("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}
