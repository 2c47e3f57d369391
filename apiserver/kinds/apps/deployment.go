package apps

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/scale"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// What a Deployment does unless it says otherwise.
const (
	defaultHistory  = 10
	defaultDeadline = 600 // seconds
	defaultRolling  = "25%"
)

// Deployment brings new versions of pods in, one ReplicaSet after the other.
var Deployment = resource.Define(scheme.Types, resource.Spec[appsv1.Deployment]{
	Names: resource.Names{
		Group: group, Version: version, Kind: "Deployment", Plural: "deployments", Short: []string{"deploy"}, Categories: []string{"all"},
	},
	Scope:     resource.Namespaced,
	Default:   defaultDeployment,
	SetStatus: func(dst, src *appsv1.Deployment) { src.Status.DeepCopyInto(&dst.Status) },
	// Annotations count, since they are copied to the ReplicaSets.
	SpecChanged: func(d, old *appsv1.Deployment) bool {
		return !equality.Semantic.DeepEqual(d.Spec, old.Spec) || !equality.Semantic.DeepEqual(d.Annotations, old.Annotations)
	},
	Validate:                 validateDeployment,
	ValidateUpdate:           validateDeploymentUpdate,
	ValidateStatusUpdate:     validateDeploymentStatus,
	Warnings:                 warnDeployment,
	AllowUnconditionalUpdate: true,
	Columns:                  deploymentColumns(),
	Subresources: []resource.Subresource{scale.Subresource(group,
		func(o resource.Object) scale.View {
			d := o.(*appsv1.Deployment)
			return scale.View{Replicas: d.Spec.Replicas, Current: d.Status.Replicas, Selector: d.Spec.Selector}
		},
		func(o resource.Object, n int32) { o.(*appsv1.Deployment).Spec.Replicas = &n },
	)},
})

func defaultDeployment(d *appsv1.Deployment) {
	number := func(p **int32, value int32) {
		if *p == nil {
			*p = &value
		}
	}
	number(&d.Spec.Replicas, 1)
	number(&d.Spec.RevisionHistoryLimit, defaultHistory)
	number(&d.Spec.ProgressDeadlineSeconds, defaultDeadline)
	s := &d.Spec.Strategy
	if s.Type == "" {
		s.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if s.Type == appsv1.RollingUpdateDeploymentStrategyType {
		if s.RollingUpdate == nil {
			s.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}
		for _, p := range []**intstr.IntOrString{&s.RollingUpdate.MaxUnavailable, &s.RollingUpdate.MaxSurge} {
			if *p == nil {
				quarter := intstr.FromString(defaultRolling)
				*p = &quarter
			}
		}
	}
	core.DefaultPodTemplate(&d.Spec.Template)
}

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	path, s := field.NewPath("spec"), &d.Spec
	var errs field.ErrorList
	for _, n := range []struct {
		name  string
		value *int32
	}{
		{"replicas", s.Replicas}, {"minReadySeconds", &s.MinReadySeconds},
		{"revisionHistoryLimit", s.RevisionHistoryLimit}, {"progressDeadlineSeconds", s.ProgressDeadlineSeconds},
	} {
		if n.value != nil {
			errs = append(errs, check.NonNegative(*n.value, path.Child(n.name))...)
		}
	}
	if p := s.ProgressDeadlineSeconds; p != nil && *p <= s.MinReadySeconds {
		errs = append(errs, field.Invalid(path.Child("progressDeadlineSeconds"), *p, "must be greater than minReadySeconds"))
	}
	errs = append(errs, validateSelected(s.Selector, &s.Template, path)...)
	return append(errs, validateStrategy(&s.Strategy, path.Child("strategy"))...)
}

func validateStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	at := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(at, "may not be specified when strategy `type` is '"+string(s.Type)+"'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
	default:
		return field.ErrorList{field.NotSupported(path, s, []appsv1.DeploymentStrategyType{
			appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
	}
	r := s.RollingUpdate
	if r == nil || r.MaxUnavailable == nil || r.MaxSurge == nil {
		return field.ErrorList{field.Required(at, "this should be defaulted and never be nil")}
	}
	errs := check.Portion(*r.MaxUnavailable, at.Child("maxUnavailable"))
	errs = append(errs, check.Portion(*r.MaxSurge, at.Child("maxSurge"))...)
	unavailable, percent := check.Amount(*r.MaxUnavailable)
	surge, _ := check.Amount(*r.MaxSurge)
	if unavailable == 0 && surge == 0 {
		errs = append(errs, field.Invalid(at.Child("maxUnavailable"), *r.MaxUnavailable, "may not be 0 when `maxSurge` is 0"))
	}
	if percent && unavailable > 100 {
		errs = append(errs, field.Invalid(at.Child("maxUnavailable"), *r.MaxUnavailable, "must not be greater than 100%"))
	}
	return errs
}

func validateDeploymentUpdate(d, old *appsv1.Deployment) field.ErrorList {
	return check.Immutable(d.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))
}

func validateDeploymentStatus(d, old *appsv1.Deployment) field.ErrorList {
	path, s := field.NewPath("status"), &d.Status
	numbers := map[string]int64{
		"observedGeneration": s.ObservedGeneration, "replicas": int64(s.Replicas), "updatedReplicas": int64(s.UpdatedReplicas),
		"readyReplicas": int64(s.ReadyReplicas), "availableReplicas": int64(s.AvailableReplicas), "unavailableReplicas": int64(s.UnavailableReplicas),
	}
	if s.TerminatingReplicas != nil {
		numbers["terminatingReplicas"] = int64(*s.TerminatingReplicas)
	}
	if s.CollisionCount != nil {
		numbers["collisionCount"] = int64(*s.CollisionCount)
	}
	errs := counts(path, numbers)
	const more = "cannot be greater than status.replicas"
	errs = append(errs, atMost(s.UpdatedReplicas, s.Replicas, path.Child("updatedReplicas"), more)...)
	errs = append(errs, atMost(s.ReadyReplicas, s.Replicas, path.Child("readyReplicas"), more)...)
	errs = append(errs, atMost(s.AvailableReplicas, s.Replicas, path.Child("availableReplicas"), more)...)
	errs = append(errs, atMost(s.AvailableReplicas, s.ReadyReplicas, path.Child("availableReplicas"), "cannot be greater than readyReplicas")...)
	return append(errs, neverFewer(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

func warnDeployment(d, old *appsv1.Deployment) []string {
	path := field.NewPath("spec", "template")
	if old == nil {
		return append(warnName(d.Name), core.WarnPodTemplate(&d.Spec.Template, path)...)
	}
	if equality.Semantic.DeepEqual(d.Spec, old.Spec) && equality.Semantic.DeepEqual(d.Annotations, old.Annotations) {
		return nil
	}
	return core.WarnPodTemplate(&d.Spec.Template, path)
}

func deploymentColumns() []resource.Column[appsv1.Deployment] {
	status := appsv1.DeploymentStatus{}.SwaggerDoc()
	return []resource.Column[appsv1.Deployment]{
		{Name: "Ready", Describe: "Number of the pod with ready state", Value: func(d *appsv1.Deployment) any {
			return fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, wished(d.Spec.Replicas))
		}},
		{Name: "Up-to-date", Describe: status["updatedReplicas"], Value: func(d *appsv1.Deployment) any { return int64(d.Status.UpdatedReplicas) }},
		{Name: "Available", Describe: status["availableReplicas"], Value: func(d *appsv1.Deployment) any { return int64(d.Status.AvailableReplicas) }},
		show.Age[appsv1.Deployment](),
		{Name: "Containers", Wide: true, Describe: "Names of each container in the template.", Value: func(d *appsv1.Deployment) any {
			return show.Containers(d.Spec.Template.Spec.Containers)
		}},
		{Name: "Images", Wide: true, Describe: "Images referenced by each container in the template.", Value: func(d *appsv1.Deployment) any {
			return show.Images(d.Spec.Template.Spec.Containers)
		}},
		{Name: "Selector", Wide: true, Describe: appsv1.DeploymentSpec{}.SwaggerDoc()["selector"], Value: func(d *appsv1.Deployment) any {
			selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
			if err != nil {
				return "<invalid>"
			}
			return selector.String()
		}},
	}
}
