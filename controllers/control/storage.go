package control

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Claims is the cache of all PersistentVolumeClaims, those without a volume indexed by class.
type Claims struct {
	*client.Informer[corev1.PersistentVolumeClaim]
}

// Claims returns the shared cache of PersistentVolumeClaims.
func (e Env) Claims() Claims {
	return Claims{client.PersistentVolumeClaims.Informer(e.Informers, client.Options{Indexes: map[string]func(any) []string{
		byClass: func(obj any) []string {
			c, ok := obj.(*corev1.PersistentVolumeClaim)
			if !ok || c.Status.Phase == corev1.ClaimBound {
				return nil
			}
			return []string{ClassOf(c, c.Spec.StorageClassName)}
		},
	}})}
}

// Waiting returns the claims of a class that are not bound.
func (c Claims) Waiting(class string) []*corev1.PersistentVolumeClaim {
	return c.ByIndex(byClass, class)
}

// ClassOf is the storage class that an object names, in its annotation of old or in its field.
func ClassOf(obj metav1.Object, field *string) string {
	if class, ok := obj.GetAnnotations()[corev1.BetaStorageClassAnnotation]; ok || field == nil {
		return class
	}
	return *field
}

// Volumes is the cache of all PersistentVolumes, indexed by class and by the claim that they name.
type Volumes struct {
	*client.Informer[corev1.PersistentVolume]
}

// Volumes returns the shared cache of PersistentVolumes.
func (e Env) Volumes() Volumes {
	return Volumes{client.PersistentVolumes.Informer(e.Informers, client.Options{Indexes: map[string]func(any) []string{
		byClass: func(obj any) []string {
			v, ok := obj.(*corev1.PersistentVolume)
			if !ok {
				return nil
			}
			return []string{ClassOf(v, &v.Spec.StorageClassName)}
		},
		byClaim: func(obj any) []string {
			v, ok := obj.(*corev1.PersistentVolume)
			if !ok || v.Spec.ClaimRef == nil {
				return nil
			}
			return []string{v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name}
		},
	}})}
}

// OfClass returns the volumes of a class.
func (v Volumes) OfClass(class string) []*corev1.PersistentVolume { return v.ByIndex(byClass, class) }

// Naming returns the volumes that name a claim.
func (v Volumes) Naming(claim reconcile.Key) []*corev1.PersistentVolume {
	return v.ByIndex(byClaim, claim.String())
}
