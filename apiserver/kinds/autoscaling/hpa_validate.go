package autoscaling

import (
	"errors"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
)

// The longest times that rules can look back.
const (
	maxWindow = 3600
	maxPeriod = 1800
)

func validateAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	path, s := field.NewPath("spec"), &h.Spec
	var errs field.ErrorList
	if s.MaxReplicas == 0 {
		errs = append(errs, field.Required(path.Child("maxReplicas"), "must be set and greater than 0"))
	} else if s.MaxReplicas < 0 {
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to 1"))
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	for i := range s.Metrics {
		errs = append(errs, validateMetric(&s.Metrics[i], path.Child("metrics").Index(i))...)
	}
	if b := s.Behavior; b != nil {
		errs = append(errs, validateRules(b.ScaleUp, path.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateRules(b.ScaleDown, path.Child("behavior", "scaleDown"))...)
	}
	return errs
}

// validateNewTarget applies the rules that objects from before them are spared. Old is nil on create.
func validateNewTarget(h, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	path, s := field.NewPath("spec"), &h.Spec
	least := int32(1)
	if old != nil && old.Spec.MinReplicas != nil && *old.Spec.MinReplicas == 0 {
		least = 0
	}
	var errs field.ErrorList
	if n := s.MinReplicas; n != nil && *n < least {
		errs = append(errs, field.Invalid(path.Child("minReplicas"), *n, fmt.Sprintf("must be greater than or equal to %d", least)))
	}
	if n := s.MinReplicas; n != nil && *n == 0 {
		beyond := false
		for _, m := range s.Metrics {
			beyond = beyond || m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
		}
		if !beyond {
			errs = append(errs, field.Forbidden(path.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
		}
	}
	ref, same := s.ScaleTargetRef, old != nil
	if same {
		was := old.Spec.ScaleTargetRef
		same = was.APIVersion == ref.APIVersion && was.Kind == ref.Kind
	}
	errs = append(errs, validateReference(ref, path.Child("scaleTargetRef"), same, ref.Kind == "ReplicationController")...)
	badMetrics := false
	if old != nil {
		for _, m := range old.Spec.Metrics {
			badMetrics = badMetrics || m.Object != nil && validateAPIVersion(m.Object.DescribedObject.APIVersion, true) != nil
		}
	}
	for i, m := range s.Metrics {
		if m.Object != nil {
			errs = append(errs, validateReference(m.Object.DescribedObject, path.Child("metrics").Index(i).Child("object", "describedObject"), badMetrics, true)...)
		}
	}
	return errs
}

func validateReference(ref autoscalingv2.CrossVersionObjectReference, at *field.Path, anyVersion, core bool) field.ErrorList {
	errs := segment(ref.Kind, "", at.Child("kind"))
	errs = append(errs, segment(ref.Name, "", at.Child("name"))...)
	if !anyVersion {
		if err := validateAPIVersion(ref.APIVersion, core); err != nil {
			errs = append(errs, field.Invalid(at.Child("apiVersion"), ref.APIVersion, err.Error()))
		}
	}
	return errs
}

// segment wants something that can be part of a URL's path.
func segment(value, missing string, at *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, missing)}
	}
	return check.Each(at, value, content.IsPathSegmentName(value))
}

func validateAPIVersion(version string, core bool) error {
	gv, err := schema.ParseGroupVersion(version)
	if err == nil && gv.Group == "" && !core {
		err = errors.New("apiVersion must specify API group")
	}
	return err
}

func validateRules(r *autoscalingv2.HPAScalingRules, at *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if w := r.StabilizationWindowSeconds; w != nil && *w < 0 {
		errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), w, "must be greater than or equal to zero"))
	} else if w != nil && *w > maxWindow {
		errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), w, fmt.Sprintf("must be less than or equal to %v", maxWindow)))
	}
	if p := r.SelectPolicy; p != nil {
		errs = append(errs, check.Among(*p, at.Child("selectPolicy"), autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)...)
	}
	policies := at.Child("policies")
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(policies, "must specify at least one Policy"))
	}
	for i, p := range r.Policies {
		at := policies.Index(i)
		errs = append(errs, check.Among(p.Type, at.Child("type"), autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy)...)
		if p.Value <= 0 {
			errs = append(errs, field.Invalid(at.Child("value"), p.Value, "must be greater than zero"))
		}
		if p.PeriodSeconds <= 0 {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
		}
		if p.PeriodSeconds > maxPeriod {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %v", maxPeriod)))
		}
	}
	if t := r.Tolerance; t != nil && t.Sign() < 0 {
		errs = append(errs, field.Invalid(at.Child("tolerance"), t.String(), "must be greater than or equal to 0"))
	}
	return errs
}

// source is one of the places that a metric can come from.
type source struct {
	name  string
	is    autoscalingv2.MetricSourceType
	there bool
	check func(at *field.Path) field.ErrorList
}

func sources(m *autoscalingv2.MetricSpec) []source {
	return []source{
		{"object", autoscalingv2.ObjectMetricSourceType, m.Object != nil, func(at *field.Path) field.ErrorList {
			errs := append(segment(m.Object.Metric.Name, "must specify a metric name", at.Child("metric", "name")), validateTarget(m.Object.Target, at.Child("target"))...)
			if m.Object.Target.Value == nil && m.Object.Target.AverageValue == nil {
				errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value or averageValue"))
			}
			return errs
		}},
		{"external", autoscalingv2.ExternalMetricSourceType, m.External != nil, func(at *field.Path) field.ErrorList {
			errs := append(segment(m.External.Metric.Name, "must specify a metric name", at.Child("metric", "name")), validateTarget(m.External.Target, at.Child("target"))...)
			switch whole, each := m.External.Target.Value != nil, m.External.Target.AverageValue != nil; {
			case !whole && !each:
				errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
			case whole && each:
				errs = append(errs, field.Forbidden(at.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
			}
			return errs
		}},
		{"pods", autoscalingv2.PodsMetricSourceType, m.Pods != nil, func(at *field.Path) field.ErrorList {
			errs := append(segment(m.Pods.Metric.Name, "must specify a metric name", at.Child("metric", "name")), validateTarget(m.Pods.Target, at.Child("target"))...)
			if m.Pods.Target.AverageValue == nil {
				errs = append(errs, field.Required(at.Child("target", "averageValue"), "must specify a positive target averageValue"))
			}
			return errs
		}},
		{"resource", autoscalingv2.ResourceMetricSourceType, m.Resource != nil, func(at *field.Path) field.ErrorList {
			var errs field.ErrorList
			if m.Resource.Name == "" {
				errs = append(errs, field.Required(at.Child("name"), "must specify a resource name"))
			}
			return append(errs, validateResourceTarget(m.Resource.Target, at.Child("target"))...)
		}},
		{"containerResource", autoscalingv2.ContainerResourceMetricSourceType, m.ContainerResource != nil, func(at *field.Path) field.ErrorList {
			var errs field.ErrorList
			if name := m.ContainerResource.Name; name == "" {
				errs = append(errs, field.Required(at.Child("name"), "must specify a resource name"))
			} else {
				errs = append(errs, core.ValidateContainerResourceName(name, at.Child("name"))...)
			}
			if name := m.ContainerResource.Container; name == "" {
				errs = append(errs, field.Required(at.Child("container"), "must specify a container"))
			} else {
				errs = append(errs, check.DNSLabel(name, at.Child("container"))...)
			}
			return append(errs, validateResourceTarget(m.ContainerResource.Target, at.Child("target"))...)
		}},
	}
}

// validateMetric wants exactly the source that the type names.
func validateMetric(m *autoscalingv2.MetricSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	all := sources(m)
	types := []autoscalingv2.MetricSourceType{}
	known, count := false, 0
	for _, s := range all {
		types = append(types, s.is)
		known = known || s.is == m.Type
		if s.there {
			if count++; count == 1 {
				errs = append(errs, s.check(at.Child(s.name))...)
			}
		}
	}
	if m.Type == "" {
		errs = append(errs, field.Required(at.Child("type"), "must specify a metric source type"))
	}
	if !known {
		errs = append(errs, check.Among(m.Type, at.Child("type"), types...)...)
	}
	for _, s := range all {
		switch {
		case s.is == m.Type && !s.there:
			errs = append(errs, field.Required(at.Child(s.name), "must populate information for the given metric source"))
		case s.is != m.Type && s.there && count != 1:
			errs = append(errs, field.Forbidden(at.Child(s.name), "must populate the given metric source only"))
		}
	}
	return errs
}

func validateResourceTarget(t autoscalingv2.MetricTarget, at *field.Path) field.ErrorList {
	errs := validateTarget(t, at)
	switch percent, raw := t.AverageUtilization != nil, t.AverageValue != nil; {
	case !percent && !raw:
		errs = append(errs, field.Required(at.Child("averageUtilization"), "must set either a target raw value or a target utilization"))
	case percent && raw:
		errs = append(errs, field.Forbidden(at.Child("averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func validateTarget(t autoscalingv2.MetricTarget, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if t.Type == "" {
		errs = append(errs, field.Required(at.Child("type"), "must specify a metric target type"))
	}
	if t.Type != autoscalingv2.UtilizationMetricType && t.Type != autoscalingv2.ValueMetricType && t.Type != autoscalingv2.AverageValueMetricType {
		errs = append(errs, field.Invalid(at.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		errs = append(errs, field.Invalid(at.Child("value"), t.Value, "must be positive"))
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		errs = append(errs, field.Invalid(at.Child("averageValue"), t.AverageValue, "must be positive"))
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		errs = append(errs, field.Invalid(at.Child("averageUtilization"), t.AverageUtilization, "must be greater than 0"))
	}
	return errs
}

func validateAutoscalerStatus(h, _ *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	path := field.NewPath("status")
	return append(check.NonNegative(h.Status.CurrentReplicas, path.Child("currentReplicas")), check.NonNegative(h.Status.DesiredReplicas, path.Child("desiredReplicas"))...)
}
