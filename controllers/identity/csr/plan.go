package csr

import (
	"crypto/x509"
	"net"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

type request = certificatesv1.CertificateSigningRequest

func is(r *request, t certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == t })
}

// How long a request is kept, by how far it has got.
const (
	keptApproved = time.Hour
	keptDenied   = time.Hour
	keptPending  = 24 * time.Hour
)

// goes is when a request is deleted: an hour after a decision, a day after it was made.
func goes(r *request) time.Time {
	at := r.CreationTimestamp.Add(keptPending)
	for _, c := range r.Status.Conditions {
		if c.LastUpdateTime.IsZero() {
			continue // nobody knows since when
		}
		switch c.Type {
		case certificatesv1.CertificateApproved:
			at = earlier(at, c.LastUpdateTime.Add(keptApproved))
		case certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			at = earlier(at, c.LastUpdateTime.Add(keptDenied))
		}
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// recognizer is a kind of request that is approved without a person, if whoever asks may create the subresource.
type recognizer struct {
	subresource string
	message     string
	matches     func(r *request, x *x509.CertificateRequest) bool
}

// recognizers: a node that renews its client certificate, and a new one that asks for its first.
var recognizers = []recognizer{
	{"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.", func(r *request, x *x509.CertificateRequest) bool {
		return nodeClient(r, x) && r.Spec.Username == x.Subject.CommonName
	}},
	{"nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.", nodeClient},
}

func nodeClient(r *request, x *x509.CertificateRequest) bool {
	return r.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName && checkNodeClient(x, r.Spec.Usages) == nil
}

// ownServing says whether a node asks for a serving certificate for names that are its own and no others.
func ownServing(r *request, x *x509.CertificateRequest, node *corev1.Node) bool {
	if r.Spec.SignerName != certificatesv1.KubeletServingSignerName || checkServing(x, r.Spec.Usages) != nil || node == nil ||
		r.Spec.Username != x.Subject.CommonName || r.Spec.Username != nodePrefix+node.Name || !slices.Contains(r.Spec.Groups, nodesGroup) {
		return false
	}
	for _, name := range x.DNSNames {
		if !has(node, func(a corev1.NodeAddress) bool {
			return (a.Type == corev1.NodeHostName || a.Type == corev1.NodeInternalDNS || a.Type == corev1.NodeExternalDNS) && a.Address == name
		}) {
			return false
		}
	}
	for _, ip := range x.IPAddresses {
		if !has(node, func(a corev1.NodeAddress) bool {
			return (a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP) && ip.Equal(net.ParseIP(a.Address))
		}) {
			return false
		}
	}
	return true
}

func has(node *corev1.Node, f func(corev1.NodeAddress) bool) bool {
	return slices.ContainsFunc(node.Status.Addresses, f)
}
