// Package apps declares the kinds of the group apps: the workloads that keep pods running, and their history.
package apps

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
)

const group, version = "apps", "v1"

// validateSelected checks a selector and the template whose pods it must select.
func validateSelected(selector *metav1.LabelSelector, template *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	at := path.Child("selector")
	errs := requireSelector(selector, "deployment", at)
	matcher, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return append(errs, field.Invalid(at, selector, "invalid label selector"))
	}
	at = path.Child("template")
	if !matcher.Empty() && !matcher.Matches(labels.Set(template.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), template.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, core.ValidatePodTemplate(template, at)...)
	return append(errs, runsForEver(template, "ReplicaSet", at)...)
}

// requireSelector wants a selector that selects something. word is the kind in messages.
func requireSelector(selector *metav1.LabelSelector, word string, at *field.Path) field.ErrorList {
	if selector == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := check.Selector(selector, at)
	if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(at, selector, "empty selector is invalid for "+word))
	}
	return errs
}

// runsForEver wants a template for pods that do not end by themselves. word is the kind in messages.
func runsForEver(t *corev1.PodTemplateSpec, word string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p := t.Spec.RestartPolicy; p != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(at.Child("spec", "restartPolicy"), p, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+word+" is not Supported"))
	}
	return errs
}

// neverFewer wants a count that only grows.
func neverFewer(now, was *int32, at *field.Path) field.ErrorList {
	if was != nil && wished(now) < wished(was) {
		return field.ErrorList{field.Invalid(at, wished(now), "cannot be decremented")}
	}
	return nil
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
