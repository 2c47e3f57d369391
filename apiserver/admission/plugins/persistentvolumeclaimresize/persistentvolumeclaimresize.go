// Package persistentvolumeclaimresize lets claims grow only once they are bound, and only where their storage class says
// that its volumes can grow.
package persistentvolumeclaimresize

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"hardway/apiserver/admission"
)

// Plugin is the plugin. Class finds a storage class, nil when there is none.
type Plugin struct {
	Class func(ctx context.Context, name string) *storagev1.StorageClass
}

// Name is upstream's.
func (Plugin) Name() string { return "PersistentVolumeClaimResize" }

// Validate looks at claims that grow.
func (p Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	now, ok := a.Object.(*corev1.PersistentVolumeClaim)
	old, ok2 := a.Old.(*corev1.PersistentVolumeClaim)
	if !ok || !ok2 || a.Operation != admission.Update || a.Subresource != "" {
		return nil
	}
	was, wants := old.Spec.Resources.Requests[corev1.ResourceStorage], now.Spec.Resources.Requests[corev1.ResourceStorage]
	if wants.Cmp(was) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return admission.Forbid(a, "Only bound persistent volume claims can be expanded")
	}
	name := className(now)
	if name != "" && name == className(old) {
		if class := p.Class(ctx, name); class != nil && class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion {
			return nil
		}
	}
	return admission.Forbid(a, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
}

// className is the name of a claim's class, where it was once said or where it is said now.
func className(c *corev1.PersistentVolumeClaim) string {
	if name, has := c.Annotations[corev1.BetaStorageClassAnnotation]; has {
		return name
	}
	if c.Spec.StorageClassName == nil {
		return ""
	}
	return *c.Spec.StorageClassName
}
