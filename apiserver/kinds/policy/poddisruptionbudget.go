// Package policy declares the kinds of the group policy: how many pods may be taken away at once.
package policy

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

const group, version = "policy", "v1"

// PodDisruptionBudget says how many of some pods must stay when pods are evicted.
var PodDisruptionBudget = resource.Define(scheme.Types, resource.Spec[policyv1.PodDisruptionBudget]{
	Names:       resource.Names{Group: group, Version: version, Kind: "PodDisruptionBudget", Plural: "poddisruptionbudgets", Short: []string{"pdb"}},
	Scope:       resource.Namespaced,
	SetStatus:   func(dst, src *policyv1.PodDisruptionBudget) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged: func(b, old *policyv1.PodDisruptionBudget) bool { return !equality.Semantic.DeepEqual(b.Spec, old.Spec) },
	Validate:    validateBudget,
	ValidateStatusUpdate: func(b, _ *policyv1.PodDisruptionBudget) field.ErrorList {
		path, s := field.NewPath("status"), &b.Status
		errs := metav1validation.ValidateConditions(s.Conditions, path.Child("conditions"))
		for _, n := range []struct {
			name  string
			value int32
		}{
			{"disruptionsAllowed", s.DisruptionsAllowed}, {"currentHealthy", s.CurrentHealthy}, {"desiredHealthy", s.DesiredHealthy}, {"expectedPods", s.ExpectedPods},
		} {
			errs = append(errs, check.NonNegative(n.value, path.Child(n.name))...)
		}
		return errs
	},
	Columns: []resource.Column[policyv1.PodDisruptionBudget]{
		{Name: "Min Available", Describe: "The minimum number of pods that must be available.", Value: func(b *policyv1.PodDisruptionBudget) any { return showPortion(b.Spec.MinAvailable) }},
		{Name: "Max Unavailable", Describe: "The maximum number of pods that may be unavailable.", Value: func(b *policyv1.PodDisruptionBudget) any { return showPortion(b.Spec.MaxUnavailable) }},
		{Name: "Allowed Disruptions", Type: "integer", Describe: "Calculated number of pods that may be disrupted at this time.", Value: func(b *policyv1.PodDisruptionBudget) any { return int64(b.Status.DisruptionsAllowed) }},
		show.Age[policyv1.PodDisruptionBudget](),
	},
})

func showPortion(v *intstr.IntOrString) string {
	if v == nil {
		return "N/A"
	}
	return v.String()
}

func validateBudget(b *policyv1.PodDisruptionBudget) field.ErrorList {
	path, s := field.NewPath("spec"), &b.Spec
	var errs field.ErrorList
	if s.MinAvailable != nil && s.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(path, s, "minAvailable and maxUnavailable cannot be both set"))
	}
	if s.MinAvailable != nil {
		errs = append(errs, check.NotMoreThanAll(*s.MinAvailable, path.Child("minAvailable"))...)
	}
	if s.MaxUnavailable != nil {
		errs = append(errs, check.NotMoreThanAll(*s.MaxUnavailable, path.Child("maxUnavailable"))...)
	}
	errs = append(errs, check.Selector(s.Selector, path.Child("selector"))...)
	if p := s.UnhealthyPodEvictionPolicy; p != nil {
		errs = append(errs, check.Among(*p, path.Child("unhealthyPodEvictionPolicy"), policyv1.IfHealthyBudget, policyv1.AlwaysAllow)...)
	}
	return errs
}
