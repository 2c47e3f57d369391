package noderestriction

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"reflect"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/authz/node"
)

// itself: a node makes and describes its own Node, but neither its taints, once it is there, nor its owners, nor labels
// by which others choose nodes they trust.
func (w *write) itself(context.Context) string {
	if w.Subresource != "" && w.Subresource != "status" {
		return fmt.Sprintf("unexpected node subresource %q, only 'status' is allowed", w.Subresource)
	}
	now, _ := w.Object.(*corev1.Node)
	old, _ := w.Old.(*corev1.Node)
	name := w.Name
	if name == "" && now != nil {
		name = now.Name
	}
	if name != w.node {
		return fmt.Sprintf("node %q is not allowed to modify node %q", w.node, name)
	}
	if now == nil {
		return ""
	}
	var was map[string]string
	if old != nil {
		was = old.Labels
	}
	if forbidden := slices.DeleteFunc(changed(was, now.Labels), allowedLabel); len(forbidden) > 0 {
		verb := "set the following"
		if old != nil {
			verb = "modify"
		}
		return fmt.Sprintf("is not allowed to %s labels: %s", verb, strings.Join(forbidden, ", "))
	}
	switch {
	case old == nil:
	case !reflect.DeepEqual(now.Spec.Taints, old.Spec.Taints) && len(now.Spec.Taints)+len(old.Spec.Taints) > 0:
		return fmt.Sprintf("node %q is not allowed to modify taints", w.node)
	case len(now.OwnerReferences)+len(old.OwnerReferences) > 0 && !reflect.DeepEqual(now.OwnerReferences, old.OwnerReferences):
		return fmt.Sprintf("node %q is not allowed to modify owner references", w.node)
	}
	return ""
}

// changed lists the labels that are new, gone or different.
func changed(old, now map[string]string) []string {
	var out []string
	for key, value := range now {
		if was, had := old[key]; !had || was != value {
			out = append(out, key)
		}
	}
	for key := range old {
		if _, has := now[key]; !has {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// ownLabels are the labels of Kubernetes that a node gives itself.
var ownLabels = []string{
	corev1.LabelHostname, corev1.LabelOSStable, corev1.LabelArchStable, "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
	corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion, //nolint:staticcheck // SA1019: old agents set them
	corev1.LabelInstanceTypeStable, corev1.LabelInstanceType, //nolint:staticcheck // SA1019: old agents set it
	corev1.LabelWindowsBuild,
}

// allowedLabel says whether a node may give itself a label: any that is not of Kubernetes, and of those the ones that are
// meant for it.
func allowedLabel(key string) bool {
	space, _, has := strings.Cut(key, "/")
	if !has {
		return true
	}
	within := func(domain string) bool { return space == domain || strings.HasSuffix(space, "."+domain) }
	switch {
	case within("node-restriction.kubernetes.io"):
		return false
	case within("kubelet.kubernetes.io"), within("node.kubernetes.io"):
		return true
	case within("kubernetes.io"), within("k8s.io"):
		return slices.Contains(ownLabels, key)
	}
	return true
}

// claim: the status of a claim says how far its volume has grown; nothing else is the node's.
func (w *write) claim(context.Context) string {
	if w.Subresource != "status" || w.Operation != admission.Update {
		return "may only update PVC status"
	}
	now, ok := w.Object.(*corev1.PersistentVolumeClaim)
	old, ok2 := w.Old.(*corev1.PersistentVolumeClaim)
	if !ok || !ok2 {
		return "unexpected type"
	}
	now, old = now.DeepCopy(), old.DeepCopy()
	for _, c := range []*corev1.PersistentVolumeClaim{now, old} {
		c.ManagedFields, c.ResourceVersion = nil, ""
		c.Status.Capacity, c.Status.Conditions = nil, nil
		c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil
	}
	if !reflect.DeepEqual(now, old) {
		return fmt.Sprintf("node %q is not allowed to update fields other than status.capacity, status.conditions and status.allocatedResources", w.node)
	}
	return ""
}

func (w *write) lease(context.Context) string {
	if w.Namespace != corev1.NamespaceNodeLease {
		return fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	if w.name() != w.node {
		return "can only access node lease with the same name as the requesting node"
	}
	return ""
}

func (w *write) csiNode(context.Context) string {
	if w.name() != w.node {
		return "can only access CSINode with the same name as the requesting node"
	}
	return ""
}

// name is that of what is written; a new object's stands in the object.
func (w *write) name() string {
	if w.Object != nil && w.Operation == admission.Create {
		return w.Object.GetName()
	}
	return w.Name
}

// slice: devices of the node.
func (w *write) slice(context.Context) string {
	for _, obj := range []any{w.Object, w.Old} {
		s, ok := obj.(*resourcev1.ResourceSlice)
		if ok && s != nil && (s.Spec.NodeName == nil || *s.Spec.NodeName != w.node) {
			return "can only create or delete ResourceSlices with the same spec.nodeName as the requesting node"
		}
	}
	return ""
}

// request: a node asks for certificates for itself.
func (w *write) request(context.Context) string {
	csr, ok := w.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || w.Operation != admission.Create || w.Subresource != "" {
		return ""
	}
	if s := csr.Spec.SignerName; s != certificatesv1.KubeletServingSignerName && s != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return ""
	}
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return "unable to parse csr: no PEM block"
	}
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return fmt.Sprintf("unable to parse csr: %v", err)
	}
	if asked.Subject.CommonName != node.Prefix+w.node {
		return "can only create a node CSR with CN=" + node.Prefix + w.node
	}
	return ""
}
