package core

import (
	"fmt"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scale"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// ReplicationController keeps a number of equal pods running: what ReplicaSets were called first.
var ReplicationController = resource.Define(scheme.Types, resource.Spec[corev1.ReplicationController]{
	Names: resource.Names{
		Version: "v1", Kind: "ReplicationController", Plural: "replicationcontrollers", Short: []string{"rc"}, Categories: []string{"all"},
	},
	Scope:                    resource.Namespaced,
	StorageKey:               "controllers",
	Default:                  defaultReplicationController,
	SetStatus:                func(dst, src *corev1.ReplicationController) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged:              func(r, old *corev1.ReplicationController) bool { return !equality.Semantic.DeepEqual(r.Spec, old.Spec) },
	Validate:                 validateReplicationController,
	ValidateStatusUpdate:     validateReplicationControllerStatus,
	Warnings:                 warnReplicationController,
	OrphanByDefault:          true,
	AllowUnconditionalUpdate: true,
	Fields: map[string]func(*corev1.ReplicationController) string{
		"status.replicas": func(r *corev1.ReplicationController) string { return strconv.Itoa(int(r.Status.Replicas)) },
	},
	Columns: replicationControllerColumns(),
	Subresources: []resource.Subresource{scale.Subresource("",
		func(o resource.Object) scale.View {
			r := o.(*corev1.ReplicationController)
			return scale.View{Replicas: r.Spec.Replicas, Current: r.Status.Replicas, Selector: &metav1.LabelSelector{MatchLabels: r.Spec.Selector}}
		},
		func(o resource.Object, n int32) { o.(*corev1.ReplicationController).Spec.Replicas = &n },
	)},
})

func defaultReplicationController(r *corev1.ReplicationController) {
	fill.Ptr(&r.Spec.Replicas, 1)
	t := r.Spec.Template
	if t == nil {
		return
	}
	DefaultPodTemplate(t)
	if len(r.Spec.Selector) == 0 {
		r.Spec.Selector = maps.Clone(t.Labels)
	}
	if len(r.Labels) == 0 {
		r.Labels = maps.Clone(t.Labels)
	}
}

func validateReplicationController(r *corev1.ReplicationController) field.ErrorList {
	path, s := field.NewPath("spec"), &r.Spec
	errs := check.NonNegative(s.MinReadySeconds, path.Child("minReadySeconds"))
	errs = append(errs, check.NonNegative(deref(s.Replicas), path.Child("replicas"))...)
	if len(s.Selector) == 0 {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	}
	at, t := path.Child("template"), s.Template
	if t == nil {
		return append(errs, field.Required(at, ""))
	}
	if !labels.Set(s.Selector).AsSelector().Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, ValidatePodTemplate(t, at)...)
	if p := t.Spec.RestartPolicy; p != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(at.Child("spec", "restartPolicy"), p, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicationController is not Supported"))
	}
	return errs
}

func validateReplicationControllerStatus(r, _ *corev1.ReplicationController) field.ErrorList {
	path, s := field.NewPath("status"), &r.Status
	var errs field.ErrorList
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"replicas", s.Replicas}, {"fullyLabeledReplicas", s.FullyLabeledReplicas}, {"readyReplicas", s.ReadyReplicas}, {"availableReplicas", s.AvailableReplicas},
	} {
		errs = append(errs, check.NonNegative(n.value, path.Child(n.name))...)
		if n.value > s.Replicas {
			errs = append(errs, field.Invalid(path.Child(n.name), n.value, "cannot be greater than status.replicas"))
		}
	}
	errs = append(errs, check.NonNegative(s.ObservedGeneration, path.Child("observedGeneration"))...)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}

func warnReplicationController(r, old *corev1.ReplicationController) []string {
	var warnings []string
	if old == nil {
		if msgs := validation.IsDNS1123Label(r.Name); len(msgs) > 0 {
			warnings = append(warnings, fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
		}
	} else if equality.Semantic.DeepEqual(r.Spec, old.Spec) {
		return nil
	}
	if r.Spec.Template == nil {
		return warnings
	}
	return append(warnings, WarnPodTemplate(r.Spec.Template, field.NewPath("spec", "template"))...)
}

func replicationControllerColumns() []resource.Column[corev1.ReplicationController] {
	type rc = corev1.ReplicationController
	spec, status := corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc()
	containers := func(r *rc) []corev1.Container {
		if r.Spec.Template == nil {
			return nil
		}
		return r.Spec.Template.Spec.Containers
	}
	return []resource.Column[rc]{
		{Name: "Desired", Type: "integer", Describe: spec["replicas"], Value: func(r *rc) any { return int64(deref(r.Spec.Replicas)) }},
		{Name: "Current", Type: "integer", Describe: status["replicas"], Value: func(r *rc) any { return int64(r.Status.Replicas) }},
		{Name: "Ready", Type: "integer", Describe: status["readyReplicas"], Value: func(r *rc) any { return int64(r.Status.ReadyReplicas) }},
		show.Age[rc](),
		{Name: "Containers", Wide: true, Describe: "Names of each container in the template.", Value: func(r *rc) any { return show.Containers(containers(r)) }},
		{Name: "Images", Wide: true, Describe: "Images referenced by each container in the template.", Value: func(r *rc) any { return show.Images(containers(r)) }},
		{Name: "Selector", Wide: true, Describe: spec["selector"], Value: func(r *rc) any { return labels.FormatLabels(r.Spec.Selector) }},
	}
}
