// Package apps declares the kinds of the group apps: the workloads that keep pods running, and their history.
package apps

import (
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/resource"
)

const group, version = "apps", "v1"

// validateSelected checks a selector and the template whose pods it must select. what names the kind in messages.
func validateSelected(selector *metav1.LabelSelector, template *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("selector")
	if selector == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, check.Selector(selector, at)...)
		if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(at, selector, "empty selector is invalid for deployment"))
		}
	}
	matcher, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return append(errs, field.Invalid(at, selector, "invalid label selector"))
	}
	at = path.Child("template")
	if !matcher.Empty() && !matcher.Matches(labels.Set(template.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), template.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, core.ValidatePodTemplate(template, at)...)
	if p := template.Spec.RestartPolicy; p != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(at.Child("spec", "restartPolicy"), p, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if template.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"))
	}
	return errs
}

// counts checks numbers of a status, none of which may be negative.
func counts(path *field.Path, numbers map[string]int64) field.ErrorList {
	var errs field.ErrorList
	for name, n := range numbers {
		errs = append(errs, check.NonNegative(n, path.Child(name))...)
	}
	return errs
}

// atMost wants n to be no more than limit.
func atMost(n, limit int32, path *field.Path, msg string) field.ErrorList {
	if n <= limit {
		return nil
	}
	return field.ErrorList{field.Invalid(path, n, msg)}
}

// warnName says that a name becomes part of pods' names and hostnames.
func warnName(name string) []string {
	if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs)}
	}
	return nil
}

// scaled is how a kind is seen through its scale subresource.
type scaled struct {
	replicas *int32 // wished
	current  int32
	selector *metav1.LabelSelector
}

// scale makes the subresource by which autoscalers and `kubectl scale` set the number of replicas alone.
func scale(of func(resource.Object) scaled, set func(resource.Object, int32)) resource.Subresource {
	return resource.Subresource{
		Name:  "scale",
		Kind:  autoscalingv1.SchemeGroupVersion.WithKind("Scale"),
		Verbs: []string{"get", "patch", "update"},
		New:   func() runtime.Object { return &autoscalingv1.Scale{} },
		Read: func(parent resource.Object) (runtime.Object, error) {
			s := of(parent)
			selector, err := metav1.LabelSelectorAsSelector(s.selector)
			if err != nil {
				return nil, apierrors.NewBadRequest(fmt.Sprintf("selector of %s: %v", parent.GetName(), err))
			}
			out := &autoscalingv1.Scale{
				ObjectMeta: metav1.ObjectMeta{
					Name: parent.GetName(), Namespace: parent.GetNamespace(), UID: parent.GetUID(),
					ResourceVersion: parent.GetResourceVersion(), CreationTimestamp: parent.GetCreationTimestamp(),
				},
				Status: autoscalingv1.ScaleStatus{Replicas: s.current, Selector: selector.String()},
			}
			if s.replicas != nil {
				out.Spec.Replicas = *s.replicas
			}
			return out, nil
		},
		Write: writeScale(set),
	}
}
