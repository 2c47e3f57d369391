// Package defaultstorageclass gives a new claim that names no storage class the default one: of the classes that are
// annotated as default the youngest, and of equally old ones the first by name. Without a default the claim stays as it is.
package defaultstorageclass

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"hardway/apiserver/admission"
)

// Annotations by which a class is the default.
const (
	annotation = "storageclass.kubernetes.io/is-default-class"
	beta       = "storageclass.beta.kubernetes.io/is-default-class"
	// betaClass is how claims once named their class.
	betaClass = "volume.beta.kubernetes.io/storage-class"
)

// Plugin is the plugin. Classes lists what there is.
type Plugin struct {
	Classes func(ctx context.Context) ([]*storagev1.StorageClass, error)
}

// Name is upstream's.
func (Plugin) Name() string { return "DefaultStorageClass" }

// Mutate sets the class of a new claim.
func (p Plugin) Mutate(ctx context.Context, a *admission.Attributes) error {
	claim, ok := a.Object.(*corev1.PersistentVolumeClaim)
	if !ok || a.Operation != admission.Create || a.Subresource != "" || claim.Spec.StorageClassName != nil {
		return nil
	}
	if _, named := claim.Annotations[betaClass]; named {
		return nil
	}
	classes, err := p.Classes(ctx)
	if err != nil {
		return admission.Forbid(a, "look for the default storage class: %w", err)
	}
	if class := choose(classes); class != nil {
		claim.Spec.StorageClassName = &class.Name
	}
	return nil
}

func choose(classes []*storagev1.StorageClass) *storagev1.StorageClass {
	var best *storagev1.StorageClass
	for _, c := range classes {
		if c.Annotations[annotation] != "true" && c.Annotations[beta] != "true" {
			continue
		}
		switch {
		case best == nil, c.CreationTimestamp.After(best.CreationTimestamp.Time),
			c.CreationTimestamp.Equal(&best.CreationTimestamp) && c.Name < best.Name:
			best = c
		}
	}
	return best
}
