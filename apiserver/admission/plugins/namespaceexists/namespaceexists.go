// Package namespaceexists has the two plugins for namespaces that are not there: one refuses what is to lie in them, the
// other makes them.
package namespaceexists

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/resource"
)

// Namespaces is the registry of namespaces. Errors are Statuses.
type Namespaces interface {
	Find(ctx context.Context, namespace, name string) (resource.Object, error)
	Create(ctx context.Context, obj resource.Object, o *metav1.CreateOptions) (resource.Object, []string, error)
}

// Exists refuses writes in namespaces that are not there.
type Exists struct{ Namespaces Namespaces }

// Name is upstream's.
func (Exists) Name() string { return "NamespaceExists" }

// Validate looks for the namespace.
func (p Exists) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Namespace == "" {
		return nil
	}
	_, err := p.Namespaces.Find(ctx, "", a.Namespace)
	return err
}

// AutoProvision makes namespaces that new objects want to lie in.
type AutoProvision struct{ Namespaces Namespaces }

// Name is upstream's.
func (AutoProvision) Name() string { return "NamespaceAutoProvision" }

// Mutate makes the namespace of a new object.
func (p AutoProvision) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Namespace == "" || a.DryRun || a.Operation != admission.Create {
		return nil
	}
	_, err := p.Namespaces.Find(ctx, "", a.Namespace)
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return admission.Forbid(a, "look for the namespace: %w", err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.Namespace}}
	if _, _, err := p.Namespaces.Create(ctx, ns, nil); err != nil && !apierrors.IsAlreadyExists(err) {
		return admission.Forbid(a, "make the namespace: %w", err)
	}
	return nil
}
