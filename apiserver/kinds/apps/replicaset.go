package apps

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/scale"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// ReplicaSet keeps a number of equal pods running.
var ReplicaSet = resource.Define(scheme.Types, resource.Spec[appsv1.ReplicaSet]{
	Names: resource.Names{
		Group: group, Version: version, Kind: "ReplicaSet", Plural: "replicasets", Short: []string{"rs"}, Categories: []string{"all"},
	},
	Scope: resource.Namespaced,
	Default: func(r *appsv1.ReplicaSet) {
		if r.Spec.Replicas == nil {
			one := int32(1)
			r.Spec.Replicas = &one
		}
		core.DefaultPodTemplate(&r.Spec.Template)
	},
	SetStatus:            func(dst, src *appsv1.ReplicaSet) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged:          func(r, old *appsv1.ReplicaSet) bool { return !equality.Semantic.DeepEqual(r.Spec, old.Spec) },
	Validate:             validateReplicaSet,
	ValidateUpdate:       validateReplicaSetUpdate,
	ValidateStatusUpdate: validateReplicaSetStatus,
	Warnings: func(r, old *appsv1.ReplicaSet) []string {
		path := field.NewPath("spec", "template")
		if old == nil {
			return append(warnName(r.Name), core.WarnPodTemplate(&r.Spec.Template, path)...)
		}
		if equality.Semantic.DeepEqual(r.Spec, old.Spec) {
			return nil
		}
		return core.WarnPodTemplate(&r.Spec.Template, path)
	},
	AllowUnconditionalUpdate: true,
	Fields: map[string]func(*appsv1.ReplicaSet) string{
		"status.replicas": func(r *appsv1.ReplicaSet) string { return strconv.Itoa(int(r.Status.Replicas)) },
	},
	Columns: replicaSetColumns(),
	Subresources: []resource.Subresource{scale.Subresource(group,
		func(o resource.Object) scale.View {
			r := o.(*appsv1.ReplicaSet)
			return scale.View{Replicas: r.Spec.Replicas, Current: r.Status.Replicas, Selector: r.Spec.Selector}
		},
		func(o resource.Object, n int32) { o.(*appsv1.ReplicaSet).Spec.Replicas = &n },
	)},
})

func validateReplicaSet(r *appsv1.ReplicaSet) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if r.Spec.Replicas != nil {
		errs = append(errs, check.NonNegative(*r.Spec.Replicas, path.Child("replicas"))...)
	}
	errs = append(errs, check.NonNegative(r.Spec.MinReadySeconds, path.Child("minReadySeconds"))...)
	return append(errs, validateSelected(r.Spec.Selector, &r.Spec.Template, path)...)
}

func validateReplicaSetUpdate(r, old *appsv1.ReplicaSet) field.ErrorList {
	return check.Immutable(r.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))
}

func validateReplicaSetStatus(r, _ *appsv1.ReplicaSet) field.ErrorList {
	path, s := field.NewPath("status"), &r.Status
	numbers := map[string]int64{
		"replicas": int64(s.Replicas), "fullyLabeledReplicas": int64(s.FullyLabeledReplicas), "readyReplicas": int64(s.ReadyReplicas),
		"availableReplicas": int64(s.AvailableReplicas), "observedGeneration": s.ObservedGeneration,
	}
	if s.TerminatingReplicas != nil {
		numbers["terminatingReplicas"] = int64(*s.TerminatingReplicas)
	}
	errs := counts(path, numbers)
	const more = "cannot be greater than status.replicas"
	errs = append(errs, atMost(s.FullyLabeledReplicas, s.Replicas, path.Child("fullyLabeledReplicas"), more)...)
	errs = append(errs, atMost(s.ReadyReplicas, s.Replicas, path.Child("readyReplicas"), more)...)
	errs = append(errs, atMost(s.AvailableReplicas, s.Replicas, path.Child("availableReplicas"), more)...)
	return append(errs, atMost(s.AvailableReplicas, s.ReadyReplicas, path.Child("availableReplicas"), "cannot be greater than readyReplicas")...)
}

func replicaSetColumns() []resource.Column[appsv1.ReplicaSet] {
	spec, status := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
	return []resource.Column[appsv1.ReplicaSet]{
		{Name: "Desired", Type: "integer", Describe: spec["replicas"], Value: func(r *appsv1.ReplicaSet) any { return wished(r.Spec.Replicas) }},
		{Name: "Current", Type: "integer", Describe: status["replicas"], Value: func(r *appsv1.ReplicaSet) any { return int64(r.Status.Replicas) }},
		{Name: "Ready", Type: "integer", Describe: status["readyReplicas"], Value: func(r *appsv1.ReplicaSet) any { return int64(r.Status.ReadyReplicas) }},
		show.Age[appsv1.ReplicaSet](),
		{Name: "Containers", Wide: true, Describe: "Names of each container in the template.", Value: func(r *appsv1.ReplicaSet) any {
			return show.Containers(r.Spec.Template.Spec.Containers)
		}},
		{Name: "Images", Wide: true, Describe: "Images referenced by each container in the template.", Value: func(r *appsv1.ReplicaSet) any {
			return show.Images(r.Spec.Template.Spec.Containers)
		}},
		{Name: "Selector", Wide: true, Describe: spec["selector"], Value: func(r *appsv1.ReplicaSet) any { return metav1.FormatLabelSelector(r.Spec.Selector) }},
	}
}

// wished is a number of replicas that was not yet defaulted, or was.
func wished(n *int32) int64 {
	if n == nil {
		return 0
	}
	return int64(*n)
}
