// Package volumebinding finds, for the volume claims of a pod, nodes from which their volumes can be reached: those that
// claims are bound to, those that they could be bound to, and those that a driver could make. Once a node is chosen, it
// binds what waited for that, before the pod is bound.
package volumebinding

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/scheduler/framework"
)

const name = "VolumeBinding"

// claims are those of a pod, by what is to be done about them.
type claims struct {
	bound   []*corev1.PersistentVolumeClaim
	waiting []*corev1.PersistentVolumeClaim // for a pod to choose a node
}

// claimsOf sorts a pod's claims; a sentence says why the pod has to wait.
func claimsOf(s *framework.Storage, p *framework.Pod) (c claims, why string) {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		name := ClaimName(p, v)
		if name == "" {
			continue
		}
		claim := s.Claim(p.Namespace, name)
		switch {
		case claim == nil && v.Ephemeral != nil:
			return c, fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
		case claim == nil:
			return c, fmt.Sprintf("persistentvolumeclaim %q not found", name)
		case v.Ephemeral != nil && !metav1.IsControlledBy(claim, p.Pod):
			return c, fmt.Sprintf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", claim.Namespace, name, p.Namespace, p.Name)
		case claim.Status.Phase == corev1.ClaimLost:
			return c, fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
		case claim.DeletionTimestamp != nil:
			return c, fmt.Sprintf("persistentvolumeclaim %q is being deleted", name)
		case complete(claim):
			c.bound = append(c.bound, claim)
		case claim.Spec.VolumeName == "" && delayed(s, claim):
			c.waiting = append(c.waiting, claim)
		default:
			return c, "pod has unbound immediate PersistentVolumeClaims"
		}
	}
	return c, ""
}

// ClaimName is the claim that a volume stands for, or "".
func ClaimName(p *framework.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return p.Name + "-" + v.Name
	default:
		return ""
	}
}

// complete says that a claim has its volume, and the volume knows it.
func complete(c *corev1.PersistentVolumeClaim) bool {
	return c.Spec.VolumeName != "" && metav1.HasAnnotation(c.ObjectMeta, framework.BindCompleted)
}

// delayed says that a claim is bound only once a pod that uses it has a node.
func delayed(s *framework.Storage, c *corev1.PersistentVolumeClaim) bool {
	class := s.Classes[classOf(c)]
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}
