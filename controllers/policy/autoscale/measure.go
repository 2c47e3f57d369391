package autoscale

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// target is what an autoscaler looks at: the thing that it scales and its pods.
type target struct {
	namespace, selector string
	current             int32
	pods                []*corev1.Pod
	tolerance           tolerance
	now                 time.Time
}

func (t target) ready() int32 {
	var n int32
	for _, pod := range t.pods {
		if pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			n++
		}
	}
	return n
}

// measured is what one metric says.
type measured struct {
	replicas int32
	status   autoscalingv2.MetricStatus
	name     string // for people
}

// failure is a metric that says nothing, with the reason for the condition.
type failure struct {
	reason string
	error
}

func (f *failure) Unwrap() error { return f.error }

// measure asks for one metric and works out what it calls for.
func (c *Controller) measure(ctx context.Context, t target, m autoscalingv2.MetricSpec) (measured, error) {
	out := measured{status: autoscalingv2.MetricStatus{Type: m.Type}}
	var err error
	reason := "InvalidMetricSourceType"
	switch {
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		reason, out.name = "FailedGetResourceMetric", string(m.Resource.Name)+" resource"
		var value autoscalingv2.MetricValueStatus
		out.replicas, value, err = c.ofResource(ctx, t, m.Resource.Name, "", m.Resource.Target)
		out.status.Resource = &autoscalingv2.ResourceMetricStatus{Name: m.Resource.Name, Current: value}
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		r := m.ContainerResource
		reason, out.name = "FailedGetContainerResourceMetric", fmt.Sprintf("%s resource of container %s", r.Name, r.Container)
		var value autoscalingv2.MetricValueStatus
		out.replicas, value, err = c.ofResource(ctx, t, r.Name, r.Container, r.Target)
		out.status.ContainerResource = &autoscalingv2.ContainerResourceMetricStatus{Name: r.Name, Container: r.Container, Current: value}
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		reason, out.name = "FailedGetPodsMetric", "pods metric "+m.Pods.Metric.Name
		var average int64
		out.replicas, average, err = c.ofPods(ctx, t, *m.Pods)
		out.status.Pods = &autoscalingv2.PodsMetricStatus{Metric: m.Pods.Metric, Current: averageOf(average)}
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		reason, out.name = "FailedGetObjectMetric", fmt.Sprintf("%s metric %s", m.Object.DescribedObject.Kind, m.Object.Metric.Name)
		var value int64
		if value, err = c.objectValue(ctx, t, *m.Object); err == nil {
			var current autoscalingv2.MetricValueStatus
			out.replicas, current, err = t.forTotal(value, m.Object.Target)
			out.status.Object = &autoscalingv2.ObjectMetricStatus{DescribedObject: m.Object.DescribedObject, Metric: m.Object.Metric, Current: current}
		}
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		reason, out.name = "FailedGetExternalMetric", "external metric "+m.External.Metric.Name
		var value int64
		if value, err = c.metrics.external(ctx, t.namespace, m.External.Metric.Name, metav1.FormatLabelSelector(m.External.Metric.Selector)); err == nil {
			var current autoscalingv2.MetricValueStatus
			out.replicas, current, err = t.forTotal(value, m.External.Target)
			out.status.External = &autoscalingv2.ExternalMetricStatus{Metric: m.External.Metric, Current: current}
		}
	default:
		err = fmt.Errorf("unknown metric source type %q", m.Type)
	}
	if err != nil {
		return out, &failure{reason, fmt.Errorf("failed to get %s: %w", out.name, err)}
	}
	return out, nil
}

func averageOf(milli int64) autoscalingv2.MetricValueStatus {
	return autoscalingv2.MetricValueStatus{AverageValue: resource.NewMilliQuantity(milli, resource.DecimalSI)}
}

// ofResource is for CPU and memory, of pods or of one of their containers.
func (c *Controller) ofResource(ctx context.Context, t target, name corev1.ResourceName, container string, to autoscalingv2.MetricTarget) (int32, autoscalingv2.MetricValueStatus, error) {
	samples, err := c.metrics.resource(ctx, t.namespace, t.selector, string(name), container)
	if missing := (*notServed)(nil); errors.As(err, &missing) {
		samples, err = c.nodes.resource(ctx, t.pods, name, container)
	}
	if err != nil {
		return 0, autoscalingv2.MetricValueStatus{}, err
	}
	r := readiness{cpu: name == corev1.ResourceCPU, initial: c.env.Config.Autoscaler.ReadinessDelay, period: c.env.Config.Autoscaler.CPUInitialization}
	g := group(t.pods, samples, r, t.now)
	switch {
	case to.AverageValue != nil:
		n, average, err := replicasFor(t.current, g, goal{target: to.AverageValue.MilliValue()}, t.tolerance)
		return n, averageOf(average), err
	case to.AverageUtilization == nil:
		return 0, autoscalingv2.MetricValueStatus{}, errors.New("neither a target utilization nor a target average value is set")
	}
	requests, err := requestsOf(t.pods, name, container)
	if err != nil {
		return 0, autoscalingv2.MetricValueStatus{}, err
	}
	n, average, err := replicasFor(t.current, g, goal{target: int64(*to.AverageUtilization), requests: requests}, t.tolerance)
	value := autoscalingv2.MetricValueStatus{AverageUtilization: new(int32(average))}
	if len(g.ready) > 0 {
		_, raw, _ := goal{target: 1}.ratio(g.ready)
		value.AverageValue = resource.NewMilliQuantity(raw, resource.DecimalSI)
	}
	return n, value, err
}

func (c *Controller) ofPods(ctx context.Context, t target, m autoscalingv2.PodsMetricSource) (int32, int64, error) {
	if m.Target.AverageValue == nil {
		return 0, 0, errors.New("target.averageValue is not set")
	}
	samples, err := c.metrics.custom(ctx, t.namespace, "pods", "*", m.Metric.Name, t.selector, selectorText(m.Metric.Selector))
	if err != nil {
		return 0, 0, err
	}
	return replicasFor(t.current, group(t.pods, samples, readiness{}, t.now), goal{target: m.Target.AverageValue.MilliValue()}, t.tolerance)
}

func selectorText(s *metav1.LabelSelector) string {
	if s == nil {
		return ""
	}
	return metav1.FormatLabelSelector(s)
}

func (c *Controller) objectValue(ctx context.Context, t target, m autoscalingv2.ObjectMetricSource) (int64, error) {
	gv, err := schema.ParseGroupVersion(m.DescribedObject.APIVersion)
	if err != nil {
		return 0, err
	}
	r, err := c.known.ByKind(ctx, gv.Group, m.DescribedObject.Kind)
	if err != nil {
		return 0, err
	}
	samples, err := c.metrics.custom(ctx, t.namespace, r.GroupResource().String(), m.DescribedObject.Name, m.Metric.Name, "", selectorText(m.Metric.Selector))
	if err != nil {
		return 0, err
	}
	for _, s := range samples {
		return s.value, nil // there is one: it was asked for by name
	}
	return 0, errors.New("no value came")
}

// forTotal is for a value that the pods share.
func (t target) forTotal(value int64, to autoscalingv2.MetricTarget) (int32, autoscalingv2.MetricValueStatus, error) {
	switch {
	case to.AverageValue != nil:
		n := replicasForTotal(t.current, t.ready(), value, to.AverageValue.MilliValue(), true, t.tolerance)
		return n, averageOf(value / int64(max(t.current, 1))), nil
	case to.Value != nil:
		n := replicasForTotal(t.current, t.ready(), value, to.Value.MilliValue(), false, t.tolerance)
		return n, autoscalingv2.MetricValueStatus{Value: resource.NewMilliQuantity(value, resource.DecimalSI)}, nil
	}
	return 0, autoscalingv2.MetricValueStatus{}, errors.New("neither target.value nor target.averageValue is set")
}
