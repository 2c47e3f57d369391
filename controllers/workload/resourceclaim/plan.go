package resourceclaim

import (
	"fmt"
	"hash/fnv"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/podstate"
)

// forEntry is the annotation of a claim that names the entry of its pod's spec.resourceClaims.
const forEntry = "resource.kubernetes.io/pod-claim-name"

// maxName is the longest name of a claim.
const maxName = 253

// nameFor is the name of the claim that a pod's entry gets. It follows from the pod's uid, so that a claim whose creation was
// not answered is found again and never made twice.
func nameFor(pod *corev1.Pod, entry string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s", pod.UID, entry)
	base := pod.Name + "-" + entry
	tail := fmt.Sprintf("-%016x", h.Sum64())
	return base[:min(len(base), maxName-len(tail))] + tail
}

// over says whether a pod will not use its claims any more: it has ended, or was deleted before it got a node.
func over(pod *corev1.Pod) bool {
	return podstate.Terminal(pod) || pod.DeletionTimestamp != nil && pod.Spec.NodeName == ""
}

// claimFor is the claim of one entry of a pod.
func claimFor(pod *corev1.Pod, entry string, template *resourcev1.ResourceClaimTemplate) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: nameFor(pod, entry), Labels: template.Spec.Labels, Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: template.Spec.Spec,
	}
	for key, value := range template.Spec.Annotations {
		c.Annotations[key] = value
	}
	c.Annotations[forEntry] = entry
	return c
}

// entries are those of a pod for which claims are made, by the name of their template.
func entries(pod *corev1.Pod) map[string]string {
	out := map[string]string{}
	for _, e := range pod.Spec.ResourceClaims {
		if e.ResourceClaimTemplateName != nil {
			out[e.Name] = *e.ResourceClaimTemplateName
		}
	}
	return out
}

// recorded is the claim that a pod's status names for an entry.
func recorded(pod *corev1.Pod, entry string) (name string, ok bool) {
	for _, s := range pod.Status.ResourceClaimStatuses {
		if s.Name == entry {
			if s.ResourceClaimName == nil {
				return "", true // none is needed
			}
			return *s.ResourceClaimName, true
		}
	}
	return "", false
}

// claimsOf are the names of all claims of a pod that are known.
func claimsOf(pod *corev1.Pod) []string {
	var out []string
	for _, e := range pod.Spec.ResourceClaims {
		name, _ := recorded(pod, e.Name)
		if e.ResourceClaimName != nil {
			name = *e.ResourceClaimName
		}
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}

func reservedFor(c *resourcev1.ResourceClaim, pod *corev1.Pod) bool {
	return slices.ContainsFunc(c.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == pod.UID })
}

// plan is what is to be done for a claim.
type plan struct {
	status *resourcev1.ResourceClaimStatus // nil: it stays
	free   bool                            // nothing is allocated any more: the finalizer goes
	remove bool                            // its pod has ended
}

// planClaim decides from the users of a claim that are still there, and the pod that it was made for; nil: none, or gone, which
// is the garbage collector's.
func planClaim(c *resourcev1.ResourceClaim, users []resourcev1.ResourceClaimConsumerReference, made *corev1.Pod) plan {
	var p plan
	left, ending := len(users) < len(c.Status.ReservedFor), len(users) == 0 && c.DeletionTimestamp != nil
	if left || ending && c.Status.Allocation != nil {
		p.status = c.Status.DeepCopy()
		p.status.ReservedFor = users
		if len(users) == 0 { // devices that nobody uses are for others
			p.status.Allocation, p.status.Devices = nil, nil
		}
	}
	// A finalizer without devices is otherwise the scheduler's, which is about to give some.
	p.free = len(users) == 0 && (left || ending) && slices.Contains(c.Finalizers, resourcev1.Finalizer)
	p.remove = made != nil && over(made) && len(users) == 0 && c.DeletionTimestamp == nil
	return p
}
