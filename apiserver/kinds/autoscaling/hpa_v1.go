package autoscaling

import (
	"encoding/json"
	"fmt"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hardway/apiserver/resource"
)

// What the first version has no field for travels in annotations, under upstream's names and in its form.
const (
	metricsAnnotation    = "autoscaling.alpha.kubernetes.io/metrics"
	statusesAnnotation   = "autoscaling.alpha.kubernetes.io/current-metrics"
	behaviorAnnotation   = "autoscaling.alpha.kubernetes.io/behavior"
	conditionsAnnotation = "autoscaling.alpha.kubernetes.io/conditions"
)

func withoutAnnotations(in map[string]string) map[string]string {
	out := maps.Clone(in)
	for _, key := range []string{metricsAnnotation, statusesAnnotation, behaviorAnnotation, conditionsAnnotation} {
		delete(out, key)
	}
	return out
}

func percentOfCPU(m autoscalingv2.MetricSpec) *int32 {
	if m.Type != autoscalingv2.ResourceMetricSourceType || m.Resource == nil || m.Resource.Name != corev1.ResourceCPU {
		return nil
	}
	return m.Resource.Target.AverageUtilization
}

// toV1 shows a stored object in the first version.
func toV1(in resource.Object) (runtime.Object, error) {
	h, ok := in.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("%T is no HorizontalPodAutoscaler", in)
	}
	h = h.DeepCopy()
	out := &autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: h.ObjectMeta,
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(h.Spec.ScaleTargetRef), MinReplicas: h.Spec.MinReplicas, MaxReplicas: h.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: h.Status.ObservedGeneration, LastScaleTime: h.Status.LastScaleTime,
			CurrentReplicas: h.Status.CurrentReplicas, DesiredReplicas: h.Status.DesiredReplicas,
		},
	}
	out.Annotations = withoutAnnotations(out.Annotations)
	var others []autoscalingv1.MetricSpec
	for _, m := range h.Spec.Metrics {
		if p := percentOfCPU(m); p == nil {
			others = append(others, metricToV1(m))
		} else if out.Spec.TargetCPUUtilizationPercentage == nil {
			out.Spec.TargetCPUUtilizationPercentage = p
		}
	}
	var statuses []autoscalingv1.MetricStatus
	for _, m := range h.Status.CurrentMetrics {
		if r := m.Resource; r != nil && r.Name == corev1.ResourceCPU && r.Current.AverageUtilization != nil {
			out.Status.CurrentCPUUtilizationPercentage = r.Current.AverageUtilization
		}
		statuses = append(statuses, statusToV1(m))
	}
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition
	for _, c := range h.Status.Conditions {
		conditions = append(conditions, autoscalingv1.HorizontalPodAutoscalerCondition{
			Type: autoscalingv1.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	for _, a := range []struct {
		key   string
		there bool
		value any
	}{
		{metricsAnnotation, len(others) > 0, others}, {statusesAnnotation, len(statuses) > 0, statuses},
		{behaviorAnnotation, h.Spec.Behavior != nil, behaviorOut(h.Spec.Behavior)}, {conditionsAnnotation, len(conditions) > 0, conditions},
	} {
		if !a.there {
			continue
		}
		text, err := json.Marshal(a.value)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", a.key, err)
		}
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[a.key] = string(text)
	}
	return out, nil
}

// fromV1 reads an object of the first version. Annotations that cannot be read are dropped, as upstream drops them.
func fromV1(in runtime.Object) (resource.Object, error) {
	h, ok := in.(*autoscalingv1.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("%T is no HorizontalPodAutoscaler", in)
	}
	h = h.DeepCopy()
	out := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: h.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(h.Spec.ScaleTargetRef), MinReplicas: h.Spec.MinReplicas, MaxReplicas: h.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: h.Status.ObservedGeneration, LastScaleTime: h.Status.LastScaleTime,
			CurrentReplicas: h.Status.CurrentReplicas, DesiredReplicas: h.Status.DesiredReplicas,
		},
	}
	out.Annotations = withoutAnnotations(h.Annotations)
	var others []autoscalingv1.MetricSpec
	if read(h.Annotations[metricsAnnotation], &others) {
		for _, m := range others {
			out.Spec.Metrics = append(out.Spec.Metrics, metricFromV1(m))
		}
	}
	if p := h.Spec.TargetCPUUtilizationPercentage; p != nil {
		out.Spec.Metrics = append(out.Spec.Metrics, cpu(*p))
	}
	var behavior behaviorText
	if read(h.Annotations[behaviorAnnotation], &behavior) {
		out.Spec.Behavior = behavior.in()
	}
	if p := h.Status.CurrentCPUUtilizationPercentage; p != nil {
		out.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{
			Type:     autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricStatus{Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: p}},
		}}
	}
	var statuses []autoscalingv1.MetricStatus
	if read(h.Annotations[statusesAnnotation], &statuses) {
		out.Status.CurrentMetrics = nil
		for _, m := range statuses {
			out.Status.CurrentMetrics = append(out.Status.CurrentMetrics, statusFromV1(m))
		}
	}
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition
	if read(h.Annotations[conditionsAnnotation], &conditions) {
		for _, c := range conditions {
			out.Status.Conditions = append(out.Status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
				Type: autoscalingv2.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
			})
		}
	}
	return out, nil
}

func read(text string, into any) bool { return text != "" && json.Unmarshal([]byte(text), into) == nil }

// behaviorText is how upstream writes the behavior: with the names of Go, since it once marshalled its own type.
type behaviorText struct {
	ScaleUp, ScaleDown *rulesText
}

type rulesText struct {
	StabilizationWindowSeconds *int32
	SelectPolicy               *autoscalingv2.ScalingPolicySelect
	Policies                   []policyText
	Tolerance                  json.RawMessage `json:",omitempty"`
}

type policyText struct {
	Type                 autoscalingv2.HPAScalingPolicyType
	Value, PeriodSeconds int32
}

func behaviorOut(b *autoscalingv2.HorizontalPodAutoscalerBehavior) *behaviorText {
	if b == nil {
		return nil
	}
	rules := func(r *autoscalingv2.HPAScalingRules) *rulesText {
		if r == nil {
			return nil
		}
		out := &rulesText{StabilizationWindowSeconds: r.StabilizationWindowSeconds, SelectPolicy: r.SelectPolicy}
		for _, p := range r.Policies {
			out.Policies = append(out.Policies, policyText(p))
		}
		if r.Tolerance != nil {
			out.Tolerance, _ = json.Marshal(r.Tolerance) //nolint:errcheck // a quantity always has a text
		}
		return out
	}
	return &behaviorText{rules(b.ScaleUp), rules(b.ScaleDown)}
}

func (b *behaviorText) in() *autoscalingv2.HorizontalPodAutoscalerBehavior {
	rules := func(r *rulesText) *autoscalingv2.HPAScalingRules {
		if r == nil {
			return nil
		}
		out := &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: r.StabilizationWindowSeconds, SelectPolicy: r.SelectPolicy}
		for _, p := range r.Policies {
			out.Policies = append(out.Policies, autoscalingv2.HPAScalingPolicy(p))
		}
		if len(r.Tolerance) > 0 && string(r.Tolerance) != "null" {
			_ = json.Unmarshal(r.Tolerance, &out.Tolerance) //nolint:errcheck // what cannot be read is dropped, as upstream drops it
		}
		return out
	}
	if b.ScaleUp == nil && b.ScaleDown == nil {
		return nil
	}
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(b.ScaleUp), ScaleDown: rules(b.ScaleDown)}
}
