package core

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// Namespace is a scope for names. It goes in two steps: a delete marks it Terminating, and it vanishes once whoever
// empties it has taken its finalizer away through the finalize subresource.
var Namespace = resource.Define(scheme.Types, resource.Spec[corev1.Namespace]{
	Names:                    resource.Names{Version: "v1", Kind: "Namespace", Plural: "namespaces", Short: []string{"ns"}},
	Scope:                    resource.Cluster,
	Verbs:                    []string{"create", "delete", "get", "list", "patch", "update", "watch"},
	Default:                  defaultNamespace,
	SetStatus:                func(dst, src *corev1.Namespace) { src.Status.DeepCopyInto(&dst.Status) },
	Prepare:                  prepareNamespace,
	Validate:                 validateNamespace,
	ValidateName:             validation.IsDNS1123Label,
	ValidateStatusUpdate:     validateNamespaceStatus,
	OnDelete:                 terminateNamespace,
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Fields: map[string]func(*corev1.Namespace) string{
		"status.phase": func(n *corev1.Namespace) string { return string(n.Status.Phase) },
		"name":         func(n *corev1.Namespace) string { return n.Name },
	},
	Columns: []resource.Column[corev1.Namespace]{
		{Name: "Status", Describe: "The status of the namespace", Value: func(n *corev1.Namespace) any { return string(n.Status.Phase) }},
		show.Age[corev1.Namespace](),
	},
	Subresources: []resource.Subresource{{
		Name:     "finalize",
		Kind:     corev1.SchemeGroupVersion.WithKind("Namespace"),
		Verbs:    []string{"update"},
		New:      func() runtime.Object { return &corev1.Namespace{} },
		Read:     func(parent resource.Object) (runtime.Object, error) { return parent, nil },
		Write:    finalizeNamespace,
		Validate: func(obj, _ resource.Object) field.ErrorList { return validateNamespace(obj.(*corev1.Namespace)) },
	}},
})

// defaultNamespace labels a namespace with its own name, for selectors.
func defaultNamespace(n *corev1.Namespace) {
	if n.Status.Phase == "" {
		n.Status.Phase = corev1.NamespaceActive
	}
	if n.Name != "" {
		labelNamespace(n)
	}
}

func labelNamespace(n *corev1.Namespace) {
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
}

// prepareNamespace gives a new namespace its finalizer, and keeps updates of the object away from the finalizers.
func prepareNamespace(_ context.Context, n, old *corev1.Namespace) {
	if old != nil {
		n.Spec.Finalizers = slices.Clone(old.Spec.Finalizers)
		return
	}
	n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
		n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
	if n.Name != "" {
		labelNamespace(n)
	}
}

func validateNamespace(n *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "finalizers")
	for _, f := range n.Spec.Finalizers {
		errs = append(errs, validateFinalizer(string(f), path)...)
	}
	return errs
}

// validateFinalizer wants a name with a domain, or one of the names Kubernetes defines.
func validateFinalizer(name string, path *field.Path) field.ErrorList {
	errs := apivalidation.ValidateFinalizerName(name, path)
	standard := []string{string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents}
	if !strings.Contains(name, "/") && !slices.Contains(standard, name) {
		errs = append(errs, field.Invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified"))
	}
	return errs
}

func validateNamespaceStatus(n, _ *corev1.Namespace) field.ErrorList {
	path, phase := field.NewPath("status", "Phase"), n.Status.Phase
	if n.DeletionTimestamp.IsZero() {
		if phase != corev1.NamespaceActive {
			return field.ErrorList{field.Invalid(path, phase, "may only be 'Active' if `deletionTimestamp` is empty")}
		}
	} else if phase != corev1.NamespaceTerminating {
		return field.ErrorList{field.Invalid(path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}

func terminateNamespace(n *corev1.Namespace) (keep bool) {
	n.Status.Phase = corev1.NamespaceTerminating
	return len(n.Spec.Finalizers) > 0
}

// finalizeNamespace takes over the sent finalizers.
func finalizeNamespace(_ context.Context, parent resource.Object, sent runtime.Object) error {
	n, s := parent.(*corev1.Namespace), sent.(*corev1.Namespace)
	n.Spec.Finalizers = s.Spec.Finalizers
	return nil
}
