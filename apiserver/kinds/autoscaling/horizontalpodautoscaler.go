// Package autoscaling declares the kind of the group autoscaling: numbers of replicas that follow the load.
package autoscaling

import (
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

const group = "autoscaling"

// defaultUtilization is what is aimed at when nothing is said: percent of the requested CPU.
const defaultUtilization = 80

// HorizontalPodAutoscaler sets the replicas of something that has a scale by what its pods are measured to do.
//
// Its parts: hpa_validate.go checks, hpa_v1.go is the first version, which knew the CPU alone.
var HorizontalPodAutoscaler = resource.Define(scheme.Types, resource.Spec[autoscalingv2.HorizontalPodAutoscaler]{
	Names: resource.Names{
		Group: group, Version: "v2", Kind: "HorizontalPodAutoscaler", Plural: "horizontalpodautoscalers",
		Short: []string{"hpa"}, Categories: []string{"all"},
	},
	Scope:                    resource.Namespaced,
	Default:                  defaultAutoscaler,
	SetStatus:                func(dst, src *autoscalingv2.HorizontalPodAutoscaler) { src.Status.DeepCopyInto(&dst.Status) },
	Validate:                 validateAutoscaler,
	ValidateCreate:           func(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList { return validateNewTarget(h, nil) },
	ValidateUpdate:           validateNewTarget,
	ValidateStatusUpdate:     validateAutoscalerStatus,
	AllowUnconditionalUpdate: true,
	Columns:                  autoscalerColumns(),
	Versions: []resource.Version{{
		Names:      resource.Names{Group: group, Version: "v1", Kind: "HorizontalPodAutoscaler"},
		New:        func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
		NewList:    func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscalerList{} },
		ToStorage:  fromV1,
		FromStored: toV1,
	}},
})

func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	fill.Ptr(&h.Spec.MinReplicas, 1)
	if len(h.Spec.Metrics) == 0 {
		h.Spec.Metrics = []autoscalingv2.MetricSpec{cpu(defaultUtilization)}
	}
	b := h.Spec.Behavior
	if b == nil {
		return
	}
	const period = 15
	double := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: period}
	four := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: period}
	fill.Ptr(&b.ScaleUp, autoscalingv2.HPAScalingRules{})
	fill.Ptr(&b.ScaleUp.StabilizationWindowSeconds, 0)
	defaultRules(b.ScaleUp, four, double)
	fill.Ptr(&b.ScaleDown, autoscalingv2.HPAScalingRules{})
	defaultRules(b.ScaleDown, double)
}

func defaultRules(r *autoscalingv2.HPAScalingRules, policies ...autoscalingv2.HPAScalingPolicy) {
	fill.Ptr(&r.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if r.Policies == nil {
		r.Policies = policies
	}
}

// cpu is the metric of the first version.
func cpu(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
	}}
}

func autoscalerColumns() []resource.Column[autoscalingv2.HorizontalPodAutoscaler] {
	type hpa = autoscalingv2.HorizontalPodAutoscaler
	spec, status := autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc(), autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()
	return []resource.Column[hpa]{
		{Name: "Reference", Describe: spec["scaleTargetRef"], Value: func(h *hpa) any { return h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name }},
		{Name: "Targets", Describe: spec["metrics"], Value: showMetrics},
		{Name: "MinPods", Describe: spec["minReplicas"], Value: func(h *hpa) any {
			if h.Spec.MinReplicas == nil {
				return show.Unset
			}
			return fmt.Sprint(*h.Spec.MinReplicas)
		}},
		{Name: "MaxPods", Describe: spec["maxReplicas"], Value: func(h *hpa) any { return int64(h.Spec.MaxReplicas) }},
		{Name: "Replicas", Describe: status["currentReplicas"], Value: func(h *hpa) any { return int64(h.Status.CurrentReplicas) }},
		show.Age[hpa](),
	}
}

// showMetrics shows the first two metrics, measured and wished.
func showMetrics(h *autoscalingv2.HorizontalPodAutoscaler) any {
	const most = 2
	var cells []string
	for i, m := range h.Spec.Metrics {
		var now autoscalingv2.MetricStatus
		if i < len(h.Status.CurrentMetrics) {
			now = h.Status.CurrentMetrics[i]
		}
		cells = append(cells, showMetric(m, now))
	}
	switch {
	case len(cells) == 0:
		return show.None
	case len(cells) > most:
		return fmt.Sprintf("%s + %d more...", strings.Join(cells[:most], ", "), len(cells)-most)
	}
	return strings.Join(cells, ", ")
}

func showMetric(m autoscalingv2.MetricSpec, now autoscalingv2.MetricStatus) string {
	var v autoscalingv2.MetricValueStatus // nothing measured
	switch {
	case m.External != nil:
		if now.External != nil {
			v = now.External.Current
		}
		return showTarget(m.External.Target, v, " (avg)")
	case m.Object != nil:
		if now.Object != nil {
			v = now.Object.Current
		}
		return showTarget(m.Object.Target, v, " (avg)")
	case m.Pods != nil:
		if now.Pods != nil {
			v = now.Pods.Current
		}
		return showTarget(m.Pods.Target, v, "")
	case m.Resource != nil:
		if now.Resource != nil {
			v = now.Resource.Current
		}
		return string(m.Resource.Name) + ": " + showUtilization(m.Resource.Target, v)
	case m.ContainerResource != nil:
		if now.ContainerResource != nil {
			v = now.ContainerResource.Current
		}
		return string(m.ContainerResource.Name) + ": " + showUtilization(m.ContainerResource.Target, v)
	}
	return "<unknown type>"
}

func showQuantity(q *quantity.Quantity) string {
	if q == nil {
		return show.Unknown
	}
	return q.String()
}

func showTarget(want autoscalingv2.MetricTarget, now autoscalingv2.MetricValueStatus, average string) string {
	if want.AverageValue != nil {
		return showQuantity(now.AverageValue) + "/" + want.AverageValue.String() + average
	}
	return showQuantity(now.Value) + "/" + showQuantity(want.Value)
}

func showUtilization(want autoscalingv2.MetricTarget, now autoscalingv2.MetricValueStatus) string {
	if want.AverageValue != nil {
		return showQuantity(now.AverageValue) + "/" + want.AverageValue.String()
	}
	percent := func(n *int32, absent string) string {
		if n == nil {
			return absent
		}
		return fmt.Sprintf("%d%%", *n)
	}
	return percent(now.AverageUtilization, show.Unknown) + "/" + percent(want.AverageUtilization, "<auto>")
}
