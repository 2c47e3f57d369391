// Package certificates declares the kinds of the group certificates.k8s.io.
package certificates

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

type csr = certificatesv1.CertificateSigningRequest

// CertificateSigningRequest asks for a certificate. Who asks is written down when it is made; what is asked for cannot
// be changed; approval and the certificate come through subresources of their own.
var CertificateSigningRequest = resource.Define(scheme.Types, resource.Spec[csr]{
	Names: resource.Names{
		Group: certificatesv1.GroupName, Version: "v1", Kind: "CertificateSigningRequest", Plural: "certificatesigningrequests", Short: []string{"csr"},
	},
	Scope:                    resource.Cluster,
	SetStatus:                func(dst, src *csr) { src.Status.DeepCopyInto(&dst.Status) },
	Prepare:                  prepare,
	Validate:                 validate,
	ValidateName:             func(string) []string { return nil },
	ValidateStatusUpdate:     validateStatus,
	AllowUnconditionalUpdate: true,
	Fields:                   map[string]func(*csr) string{"spec.signerName": func(c *csr) string { return c.Spec.SignerName }},
	Columns: []resource.Column[csr]{
		show.Age[csr](),
		{Name: "SignerName", Describe: certificatesv1.CertificateSigningRequestSpec{}.SwaggerDoc()["signerName"], Value: func(c *csr) any { return c.Spec.SignerName }},
		{Name: "Requestor", Describe: certificatesv1.CertificateSigningRequestSpec{}.SwaggerDoc()["username"], Value: func(c *csr) any { return c.Spec.Username }},
		{Name: "RequestedDuration", Describe: certificatesv1.CertificateSigningRequestSpec{}.SwaggerDoc()["expirationSeconds"], Value: requested},
		{Name: "Condition", Describe: certificatesv1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"], Value: condition},
	},
	Subresources: []resource.Subresource{{
		Name: "approval", Kind: certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"), Verbs: []string{"get", "patch", "update"},
		New:      func() runtime.Object { return &csr{} },
		Read:     func(parent resource.Object) (runtime.Object, error) { return parent.DeepCopyObject(), nil },
		Write:    approve,
		Validate: func(obj, old resource.Object) field.ErrorList { return validateApproval(obj.(*csr), old.(*csr)) },
	}},
})

func requested(c *csr) any {
	if c.Spec.ExpirationSeconds == nil {
		return show.None
	}
	return duration.HumanDuration(time.Duration(*c.Spec.ExpirationSeconds) * time.Second)
}

// condition sums up how far the request has got.
func condition(c *csr) any {
	has := func(t certificatesv1.RequestConditionType) bool {
		return slices.ContainsFunc(c.Status.Conditions, func(have certificatesv1.CertificateSigningRequestCondition) bool { return have.Type == t })
	}
	text := "Pending"
	switch {
	case has(certificatesv1.CertificateDenied):
		text = "Denied"
	case has(certificatesv1.CertificateApproved):
		text = "Approved"
	}
	if has(certificatesv1.CertificateFailed) {
		text += ",Failed"
	}
	if len(c.Status.Certificate) > 0 {
		text += ",Issued"
	}
	return text
}

// prepare writes down who asks, and keeps what was asked for.
func prepare(ctx context.Context, c, old *csr) {
	if old != nil {
		old.Spec.DeepCopyInto(&c.Spec)
		return
	}
	spec := &c.Spec
	spec.Username, spec.UID, spec.Groups, spec.Extra = "", "", nil, nil
	if user := request.User(ctx); user != nil {
		spec.Username, spec.UID, spec.Groups = user.Name, user.UID, slices.Clone(user.Groups)
		for key, values := range user.Extra {
			if spec.Extra == nil {
				spec.Extra = map[string]certificatesv1.ExtraValue{}
			}
			spec.Extra[key] = slices.Clone(values)
		}
	}
}

// approve takes the conditions of what was sent, with its labels and annotations, and nothing else.
func approve(_ context.Context, parent resource.Object, sent runtime.Object) error {
	to, from := parent.(*csr), sent.(*csr) //nolint:forcetypeassert // the server decodes into New
	to.SetLabels(from.GetLabels())
	to.SetAnnotations(from.GetAnnotations())
	to.Status.Conditions = stamped(from.Status.Conditions, to.Status.Conditions)
	return nil
}

// stamped gives conditions that are new or have changed the times that the sender left out.
func stamped(conditions, old []certificatesv1.CertificateSigningRequestCondition) []certificatesv1.CertificateSigningRequestCondition {
	out := slices.Clone(conditions)
	now := show.Now()
	for i := range out {
		c := &out[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, was := range old {
			if was.Type == c.Type && was.Status == c.Status && !was.LastTransitionTime.IsZero() {
				c.LastTransitionTime = was.LastTransitionTime
			}
		}
	}
	return out
}

// ParseRequest reads the PEM of a signing request.
func ParseRequest(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

func conditionsOf(c *csr, types ...certificatesv1.RequestConditionType) map[certificatesv1.RequestConditionType]corev1.ConditionStatus {
	out := map[certificatesv1.RequestConditionType]corev1.ConditionStatus{}
	for _, have := range c.Status.Conditions {
		if slices.Contains(types, have.Type) {
			out[have.Type] = have.Status
		}
	}
	return out
}
