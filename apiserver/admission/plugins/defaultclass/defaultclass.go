// Package defaultclass gives objects that name no class the default one: claims a storage class, ingresses an ingress
// class. Of the classes that are annotated as default it is the youngest, and of equally old ones the first by name.
// Without a default the object stays as it is.
package defaultclass

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/resource"
)

// Annotations by which a class is the default, and by which objects once named their class.
const (
	storageDefault = "storageclass.kubernetes.io/is-default-class"
	storageBeta    = "storageclass.beta.kubernetes.io/is-default-class"
	storageNamed   = "volume.beta.kubernetes.io/storage-class"
	ingressNamed   = "kubernetes.io/ingress.class"
)

// Storage gives claims their class. Classes lists what there is.
type Storage struct {
	Classes func(ctx context.Context) ([]*storagev1.StorageClass, error)
}

// Name is upstream's.
func (Storage) Name() string { return "DefaultStorageClass" }

// Mutate sets the class of a new claim.
func (p Storage) Mutate(ctx context.Context, a *admission.Attributes) error {
	claim, ok := a.Object.(*corev1.PersistentVolumeClaim)
	if !ok || a.Operation != admission.Create || a.Subresource != "" || claim.Spec.StorageClassName != nil {
		return nil
	}
	if _, named := claim.Annotations[storageNamed]; named {
		return nil
	}
	classes, err := p.Classes(ctx)
	if err != nil {
		return admission.Forbid(a, "look for the default storage class: %w", err)
	}
	claim.Spec.StorageClassName = choose(classes, storageDefault, storageBeta)
	return nil
}

// Ingress gives ingresses their class. Classes lists what there is.
type Ingress struct {
	Classes func(ctx context.Context) ([]*networkingv1.IngressClass, error)
}

// Name is upstream's.
func (Ingress) Name() string { return "DefaultIngressClass" }

// Mutate sets the class of a new ingress.
func (p Ingress) Mutate(ctx context.Context, a *admission.Attributes) error {
	ingress, ok := a.Object.(*networkingv1.Ingress)
	if !ok || a.Operation != admission.Create || a.Subresource != "" || ingress.Spec.IngressClassName != nil {
		return nil
	}
	if _, named := ingress.Annotations[ingressNamed]; named {
		return nil
	}
	classes, err := p.Classes(ctx)
	if err != nil {
		return admission.Forbid(a, "look for the default ingress class: %w", err)
	}
	ingress.Spec.IngressClassName = choose(classes, networkingv1.AnnotationIsDefaultIngressClass)
	return nil
}

// choose returns the name of the default class, nil when there is none.
func choose[T resource.Object](classes []T, annotations ...string) *string {
	var best resource.Object
	for _, c := range classes {
		if !marked(c, annotations) {
			continue
		}
		if best == nil || younger(c, best) {
			best = c
		}
	}
	if best == nil {
		return nil
	}
	name := best.GetName()
	return &name
}

func marked(class resource.Object, annotations []string) bool {
	for _, a := range annotations {
		if class.GetAnnotations()[a] == "true" {
			return true
		}
	}
	return false
}

func younger(a, b resource.Object) bool {
	x, y := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	return x.After(y.Time) || x.Equal(&y) && a.GetName() < b.GetName()
}
