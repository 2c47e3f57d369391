package volumebinding

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"hardway/scheduler/framework"
)

// What the volume controllers and the scheduler tell each other.
const (
	boundByController = "pv.kubernetes.io/bound-by-controller"
	selectedNode      = "volume.kubernetes.io/selected-node"
	noProvisioner     = "kubernetes.io/no-provisioner"
)

// reaches says whether a volume can be used on a node.
func reaches(v *corev1.PersistentVolume, n *corev1.Node) bool {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return true
	}
	s, err := nodeaffinity.NewNodeSelector(v.Spec.NodeAffinity.Required)
	return err == nil && s.Match(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: n.Labels}})
}

// match finds the smallest volume that a claim could have on a node; one that is kept for the claim is the only one.
func match(c *corev1.PersistentVolumeClaim, of []*corev1.PersistentVolume, n *corev1.Node, taken map[string]bool) *corev1.PersistentVolume {
	var best *corev1.PersistentVolume
	for _, v := range of {
		if taken[v.Name] || v.DeletionTimestamp != nil || !suits(c, v) {
			continue
		}
		if ref := v.Spec.ClaimRef; ref != nil {
			if !keptFor(ref, c) {
				continue
			}
			if !reaches(v, n) {
				return nil
			}
			return v
		}
		if v.Status.Phase == corev1.VolumeAvailable && selects(c, v) && reaches(v, n) && (best == nil || smaller(v, best)) {
			best = v
		}
	}
	return best
}

// suits says whether a volume is large enough and of the kind that a claim wants.
func suits(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) bool {
	has, wants := v.Spec.Capacity[corev1.ResourceStorage], c.Spec.Resources.Requests[corev1.ResourceStorage]
	return has.Cmp(wants) >= 0 && or(c.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) == or(v.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) &&
		or(c.Spec.VolumeAttributesClassName, "") == or(v.Spec.VolumeAttributesClassName, "")
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// selects says whether a volume has the labels and the access modes that a claim asks for.
func selects(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) bool {
	if c.Spec.Selector != nil {
		s, err := metav1.LabelSelectorAsSelector(c.Spec.Selector)
		if err != nil || !s.Matches(labels.Set(v.Labels)) {
			return false
		}
	}
	for _, mode := range c.Spec.AccessModes {
		if !slices.Contains(v.Spec.AccessModes, mode) {
			return false
		}
	}
	return true
}

// keptFor says whether a volume that names a claim means this one.
func keptFor(ref *corev1.ObjectReference, c *corev1.PersistentVolumeClaim) bool {
	return ref.Namespace == c.Namespace && ref.Name == c.Name && (ref.UID == "" || ref.UID == c.UID)
}

func smaller(a, b *corev1.PersistentVolume) bool {
	x, y := a.Spec.Capacity[corev1.ResourceStorage], b.Spec.Capacity[corev1.ResourceStorage]
	return x.Cmp(y) < 0
}

// given is a volume with its claim written in.
func given(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	v = v.DeepCopy()
	if v.Spec.ClaimRef == nil { // not reserved by its administrator, so it may be freed again
		metav1.SetMetaDataAnnotation(&v.ObjectMeta, boundByController, "yes")
	}
	v.Spec.ClaimRef = &corev1.ObjectReference{
		APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion,
	}
	return v
}

// classOf is the class of a claim.
func classOf(c *corev1.PersistentVolumeClaim) string { return framework.ClassOfClaim(c) }
