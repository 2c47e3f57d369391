// Package storageinuse gives new claims and volumes the finalizer that keeps them while something uses them; a controller
// takes it away again.
package storageinuse

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
)

// The finalizers.
const (
	claimFinalizer  = "kubernetes.io/pvc-protection"
	volumeFinalizer = "kubernetes.io/pv-protection"
)

// Plugin is the plugin.
type Plugin struct{}

// Name is upstream's.
func (Plugin) Name() string { return "StorageObjectInUseProtection" }

// Mutate adds the finalizer to a new claim or volume.
func (Plugin) Mutate(_ context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || a.Subresource != "" {
		return nil
	}
	want := ""
	switch a.Object.(type) {
	case *corev1.PersistentVolumeClaim:
		want = claimFinalizer
	case *corev1.PersistentVolume:
		want = volumeFinalizer
	default:
		return nil
	}
	if has := a.Object.GetFinalizers(); !slices.Contains(has, want) {
		a.Object.SetFinalizers(append(slices.Clone(has), want))
	}
	return nil
}
