package binder

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/controllers/control"
)

// classOf is the name of a claim's class, "" for none.
func classOf(c *corev1.PersistentVolumeClaim) string {
	return control.ClassOf(c, c.Spec.StorageClassName)
}

func classOfVolume(v *corev1.PersistentVolume) string {
	return control.ClassOf(v, &v.Spec.StorageClassName)
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// keptFor says whether a volume is reserved for, or bound to, this claim.
func keptFor(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	ref := v.Spec.ClaimRef
	return ref != nil && ref.Namespace == c.Namespace && ref.Name == c.Name && (ref.UID == "" || ref.UID == c.UID)
}

// misfit says why a volume cannot be a claim's, "" when it can.
func misfit(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) string {
	has, wants := v.Spec.Capacity[corev1.ResourceStorage], c.Spec.Resources.Requests[corev1.ResourceStorage]
	switch {
	case has.Cmp(wants) < 0:
		return "requested PV is too small"
	case classOf(c) != classOfVolume(v):
		return "storageClassName does not match"
	case or(c.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) != or(v.Spec.VolumeMode, corev1.PersistentVolumeFilesystem):
		return "incompatible volumeMode"
	case or(c.Spec.VolumeAttributesClassName, "") != or(v.Spec.VolumeAttributesClassName, ""):
		return "incompatible volumeAttributesClassName"
	case !allows(v, c.Spec.AccessModes):
		return "incompatible accessMode"
	}
	return ""
}

func allows(v *corev1.PersistentVolume, modes []corev1.PersistentVolumeAccessMode) bool {
	return !slices.ContainsFunc(modes, func(m corev1.PersistentVolumeAccessMode) bool { return !slices.Contains(v.Spec.AccessModes, m) })
}

// choose finds the volume for a claim that names none: one that is reserved for it, else the smallest free one that fits
// unless only reserved ones count.
func choose(c *corev1.PersistentVolumeClaim, reserved, free []*corev1.PersistentVolume, onlyReserved bool) *corev1.PersistentVolume {
	for _, v := range reserved {
		if keptFor(v, c) && v.DeletionTimestamp == nil && fitsReserved(c, v) {
			return v
		}
	}
	if onlyReserved {
		return nil
	}
	wanted := labels.Everything()
	if c.Spec.Selector != nil {
		var err error
		if wanted, err = metav1.LabelSelectorAsSelector(c.Spec.Selector); err != nil {
			return nil
		}
	}
	var best *corev1.PersistentVolume
	for _, v := range free {
		if v.Spec.ClaimRef == nil && v.DeletionTimestamp == nil && v.Status.Phase == corev1.VolumeAvailable &&
			wanted.Matches(labels.Set(v.Labels)) && misfit(c, v) == "" && (best == nil || smaller(v, best)) {
			best = v
		}
	}
	return best
}

// fitsReserved leaves the class out: whoever reserved the volume knew it.
func fitsReserved(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) bool {
	like := *v
	like.Annotations = map[string]string{corev1.BetaStorageClassAnnotation: classOf(c)}
	return misfit(c, &like) == ""
}

func smaller(a, b *corev1.PersistentVolume) bool {
	x, y := a.Spec.Capacity[corev1.ResourceStorage], b.Spec.Capacity[corev1.ResourceStorage]
	if order := x.Cmp(y); order != 0 {
		return order < 0
	}
	return a.Name < b.Name
}
