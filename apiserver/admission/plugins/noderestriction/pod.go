package noderestriction

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/authz/node"
)

// pod: mirrors of its static pods are made, statuses written and pods deleted or evicted that are on the node.
func (w *write) pod(context.Context) string {
	switch {
	case w.Subresource == "status" && w.Operation == admission.Update:
		return w.podStatus()
	case w.Subresource != "" && w.Subresource != "eviction":
		return fmt.Sprintf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", w.Subresource)
	case w.Operation == admission.Create:
		return w.mirror()
	case w.Operation == admission.Delete:
		if old, ok := w.Old.(*corev1.Pod); ok && old.Spec.NodeName == w.node {
			return ""
		}
		return fmt.Sprintf("node %q can only delete pods with spec.nodeName set to itself", w.node)
	}
	return fmt.Sprintf("unexpected operation %q, node %q can only create and delete mirror pods", w.Operation, w.node)
}

// podStatus: what a pod is called by, and which devices it was given, is not the node's to say.
func (w *write) podStatus() string {
	now, _ := w.Object.(*corev1.Pod)
	old, _ := w.Old.(*corev1.Pod)
	switch {
	case now == nil || old == nil || old.Spec.NodeName != w.node:
		return fmt.Sprintf("node %q can only update pod status for pods with spec.nodeName set to itself", w.node)
	case !maps.Equal(now.Labels, old.Labels):
		return fmt.Sprintf("node %q cannot update labels through pod status", w.node)
	case !reflect.DeepEqual(now.Status.ResourceClaimStatuses, old.Status.ResourceClaimStatuses):
		return fmt.Sprintf("node %q cannot update resource claim statuses", w.node)
	}
	return ""
}

// mirror: the pod stands for a file on the node, belongs to the Node and refers to nothing that the node could so read.
func (w *write) mirror() string {
	pod, ok := w.Object.(*corev1.Pod)
	if !ok {
		return "unexpected type"
	}
	if _, is := pod.Annotations[corev1.MirrorPodAnnotationKey]; !is {
		return fmt.Sprintf("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, w.node)
	}
	if pod.Spec.NodeName != w.node {
		return fmt.Sprintf("node %q can only create pods with spec.nodeName set to itself", w.node)
	}
	if why := w.owner(pod.OwnerReferences); why != "" {
		return why
	}
	if refs := node.References(pod); len(refs) > 0 {
		return fmt.Sprintf("node %q can not create pods that reference %s", w.node, strings.Join(refs, ", "))
	}
	return ""
}

// owner: a mirror pod has one owner at most, the Node.
func (w *write) owner(owners []metav1.OwnerReference) string {
	if len(owners) == 0 {
		return ""
	}
	o := owners[0]
	self := w.p.Objects.Node(w.node)
	switch {
	case len(owners) > 1, o.APIVersion != "v1" || o.Kind != "Node" || o.Name != w.node:
		return fmt.Sprintf("node %q can only create pods with a single owner reference set to itself", w.node)
	case o.Controller == nil || !*o.Controller:
		return fmt.Sprintf("node %q can only create pods with a controller owner reference set to itself", w.node)
	case o.BlockOwnerDeletion != nil && *o.BlockOwnerDeletion:
		return fmt.Sprintf("node %q must not set blockOwnerDeletion on an owner reference", w.node)
	case self == nil || self.UID != o.UID:
		return fmt.Sprintf("node %s UID mismatch: expected the UID of the node that there is, got %s", w.node, o.UID)
	}
	return ""
}

// token: a node asks for tokens of the accounts of its pods, bound to the pod, for audiences that the pod mounts.
func (w *write) token(ctx context.Context) string {
	if w.Subresource != "token" || w.Operation != admission.Create {
		return ""
	}
	asked, ok := w.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return "unexpected type"
	}
	ref := asked.Spec.BoundObjectRef
	switch {
	case ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "":
		return "node requested token not bound to a pod"
	case ref.UID == "":
		return "node requested token with a pod binding without a uid"
	}
	pod := w.p.Objects.Pod(w.Namespace, ref.Name)
	switch {
	case pod == nil:
		return fmt.Sprintf("pod %q not found", ref.Name)
	case pod.UID != ref.UID:
		return fmt.Sprintf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	case pod.Spec.NodeName != w.node:
		return "node requested token bound to a pod scheduled on a different node"
	case pod.Spec.ServiceAccountName != w.Name:
		return "node requested token for an account that is not the pod's"
	}
	mounted := audiences(pod)
	for _, a := range asked.Spec.Audiences {
		if a != "" && !slices.Contains(mounted, a) && !w.p.MayAsk(ctx, w.user, a, w.Namespace, w.Name) {
			return fmt.Sprintf("audience %q not found in pod spec volume", a)
		}
	}
	return ""
}

// audiences are those of the tokens that a pod mounts. Drivers of volumes ask for theirs through RBAC.
func audiences(p *corev1.Pod) []string {
	var out []string
	for i := range p.Spec.Volumes {
		if v := p.Spec.Volumes[i].Projected; v != nil {
			for _, s := range v.Sources {
				if s.ServiceAccountToken != nil {
					out = append(out, s.ServiceAccountToken.Audience)
				}
			}
		}
	}
	return out
}
