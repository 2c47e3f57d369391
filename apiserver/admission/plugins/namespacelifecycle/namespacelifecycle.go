// Package namespacelifecycle keeps objects and namespaces together: nothing is written into a namespace that is absent,
// nothing is created in one that is being deleted, and the namespaces that the system lives in are not deleted.
package namespacelifecycle

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/resource"
)

// Namespaces looks up a namespace; a registry does.
type Namespaces interface {
	Find(ctx context.Context, namespace, name string) (resource.Object, error)
}

// Plugin is the plugin.
type Plugin struct{ Namespaces Namespaces }

// Name is upstream's.
func (Plugin) Name() string { return "NamespaceLifecycle" }

// immortal are the namespaces that may not be deleted, upstream's.
func immortal(name string) bool {
	return name == metav1.NamespaceDefault || name == metav1.NamespaceSystem || name == metav1.NamespacePublic
}

// Mutate checks before anything is changed or reserved; it changes nothing itself.
func (p Plugin) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Kind.Group == "" && a.Kind.Plural == "namespaces" {
		if a.Operation == admission.Delete && immortal(a.Name) {
			return apierrors.NewForbidden(a.Kind.GroupResource(), a.Name, errors.New("this namespace may not be deleted"))
		}
		return nil
	}
	if a.Namespace == "" || a.Operation == admission.Delete || !a.Kind.Stored() {
		return nil
	}
	obj, err := p.Namespaces.Find(ctx, "", a.Namespace)
	if err != nil || a.Operation != admission.Create {
		return err
	}
	if ns, ok := obj.(*corev1.Namespace); ok && ns.Status.Phase == corev1.NamespaceTerminating {
		return terminating(a)
	}
	return nil
}

func terminating(a *admission.Attributes) error {
	err := admission.Forbid(a, "unable to create new content in namespace %s because it is being terminated", a.Namespace)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", a.Namespace),
		Field:   "metadata.namespace",
	})
	return err
}
