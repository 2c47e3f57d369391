// Package autoscale sets how many pods a workload has by what they use: the HorizontalPodAutoscaler.
//
// Reads autoscalers and pods, the scale of their targets, and the metrics APIs; where no resource metrics are served, it
// asks the nodes' agents. Writes the scale of targets, and the status of autoscalers. How many pods metrics call for is
// replicas.go's, how fast the number may move behavior.go's; both are pure. A metric that cannot be had never makes a
// target smaller, and is named in the conditions.
package autoscale

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/cleanup/resources"
	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

type autoscaler = autoscalingv2.HorizontalPodAutoscaler

// Controller runs all autoscalers.
type Controller struct {
	env     control.Env
	log     *zap.Logger
	scalers *client.Informer[autoscaler]
	pods    control.Pods
	metrics *metrics
	nodes   *nodes
	known   *resources.Known
	queue   *control.Queue

	mu   sync.Mutex          // guards past
	past map[types.UID]*past // each is used by the worker that has its autoscaler
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	cfg := env.API.Config()
	m, err := newMetrics(cfg)
	if err != nil {
		return nil, err
	}
	known, err := resources.NewKnown(cfg)
	if err != nil {
		return nil, err
	}
	c := &Controller{
		env: env, log: env.Log.Named("autoscale"), pods: env.Pods(), metrics: m, nodes: newNodes(m), known: known, past: map[types.UID]*past{},
		scalers: client.HorizontalPodAutoscalers.Informer(env.Informers, client.Options{}),
	}
	c.queue = env.Queue("horizontalpodautoscaler", env.Config.WorkersFor("concurrent-horizontal-pod-autoscaler-syncs"), c.reconcile)
	c.scalers.OnChange(func(old, now *autoscaler) {
		switch {
		case now == nil:
			c.mu.Lock()
			delete(c.past, old.UID)
			c.mu.Unlock()
		case old == nil || old.Generation != now.Generation:
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	return c, nil
}

// Run scales until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.scalers.All()) })
}

func (c *Controller) pastOf(uid types.UID) *past {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.past[uid] == nil {
		c.past[uid] = &past{}
	}
	return c.past[uid]
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	h, ok := c.scalers.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	out := h.DeepCopy()
	out.Status.ObservedGeneration = &h.Generation
	problem := c.scale(ctx, out, time.Now())
	if problem != nil {
		c.log.Debug("cannot scale", zap.Stringer("key", key), zap.Error(problem))
	}
	// It is looked at again after a period, whatever happened: a target that cannot be measured is no reason to hurry.
	again := reconcile.Result{RequeueAfter: c.env.Config.Autoscaler.Period}
	if equality.Semantic.DeepEqual(h.Status, out.Status) {
		return again, nil
	}
	if _, err := client.HorizontalPodAutoscalers.Update(ctx, c.env.API, out, "status"); control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("write status of HorizontalPodAutoscaler %s: %w", key, err)
	}
	return again, nil
}

// scale does one round for an autoscaler and writes into its status what came of it.
func (c *Controller) scale(ctx context.Context, h *autoscaler, now time.Time) error {
	at, s, err := c.scaleOf(ctx, h)
	if err != nil {
		return c.complain(h, autoscalingv2.AbleToScale, "FailedGetScale", fmt.Errorf("the HPA controller was unable to get the target's current scale: %w", err))
	}
	set(h, autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	current, least := s.Spec.Replicas, int32(1)
	if h.Spec.MinReplicas != nil {
		least = *h.Spec.MinReplicas
	}
	h.Status.CurrentReplicas, h.Status.DesiredReplicas = current, current
	p, reason := c.pastOf(h.UID), ""
	desired := current
	switch {
	case current == 0 && least != 0:
		h.Status.DesiredReplicas = 0
		set(h, autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		return nil
	case current > h.Spec.MaxReplicas:
		desired, reason = h.Spec.MaxReplicas, "Current number of replicas above Spec.MaxReplicas"
	case current < least:
		desired, reason = least, "Current number of replicas below Spec.MinReplicas"
	default:
		wanted, why, err := c.wanted(ctx, h, s, now)
		if err != nil {
			return err
		}
		d := decide(current, wanted, p, c.limitsOf(h, least), now)
		if d.able != "" {
			set(h, autoscalingv2.AbleToScale, corev1.ConditionTrue, d.able, d.ableMessage)
		} else {
			set(h, autoscalingv2.AbleToScale, corev1.ConditionTrue, "ReadyForNewScale", "recommended size matches current size")
		}
		limited := corev1.ConditionFalse
		if d.limited {
			limited = corev1.ConditionTrue
		}
		set(h, autoscalingv2.ScalingLimited, limited, d.limitedReason, d.limitMessage)
		desired, reason = d.replicas, why
	}
	h.Status.DesiredReplicas = desired
	if desired == current {
		return nil
	}
	return c.rescale(ctx, h, at, s, desired, reason, p, now)
}

func (c *Controller) limitsOf(h *autoscaler, least int32) limits {
	l := limits{least: least, most: h.Spec.MaxReplicas, patience: c.env.Config.Autoscaler.Stabilization}
	if b := h.Spec.Behavior; b != nil {
		l.up, l.down = b.ScaleUp, b.ScaleDown
	}
	return l
}

// scaleOf reads the scale of the target, and where it is.
func (c *Controller) scaleOf(ctx context.Context, h *autoscaler) (at string, s *autoscalingv1.Scale, err error) {
	ref := h.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", nil, fmt.Errorf("scaleTargetRef: %w", err)
	}
	r, err := c.known.ByKind(ctx, gv.Group, ref.Kind)
	if err != nil {
		return "", nil, err
	}
	at = r.At(h.Namespace, ref.Name, "scale")
	s = &autoscalingv1.Scale{}
	return at, s, c.metrics.send(ctx, http.MethodGet, at, nil, nil, s)
}

// wanted is the largest number that a metric calls for, and its name.
func (c *Controller) wanted(ctx context.Context, h *autoscaler, s *autoscalingv1.Scale, now time.Time) (int32, string, error) {
	t := target{namespace: h.Namespace, selector: s.Status.Selector, current: s.Spec.Replicas, now: now, tolerance: c.toleranceOf(h)}
	if s.Status.Selector == "" {
		return 0, "", c.complain(h, autoscalingv2.ScalingActive, "InvalidSelector", errors.New("the HPA target's scale is missing a selector"))
	}
	selector, err := labels.Parse(s.Status.Selector)
	if err != nil {
		return 0, "", c.complain(h, autoscalingv2.ScalingActive, "InvalidSelector", fmt.Errorf("the HPA target's selector: %w", err))
	}
	for pod := range c.pods.InNamespace(h.Namespace) {
		if selector.Matches(labels.Set(pod.Labels)) {
			t.pods = append(t.pods, pod)
		}
	}
	var best measured
	var statuses []autoscalingv2.MetricStatus
	var failed []error
	for _, spec := range h.Spec.Metrics {
		m, err := c.measure(ctx, t, spec)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		statuses = append(statuses, m.status)
		if len(statuses) == 1 || m.replicas > best.replicas {
			best = m
		}
	}
	h.Status.CurrentMetrics = statuses
	if len(failed) > 0 && (len(statuses) == 0 || best.replicas < t.current) {
		reason := "FailedGetMetrics"
		if f := (*failure)(nil); errors.As(failed[0], &f) {
			reason = f.reason
		}
		err := errors.Join(failed...)
		c.env.Events.Event(h, corev1.EventTypeWarning, "FailedComputeMetricsReplicas", "invalid metrics (%d invalid out of %d): %v", len(failed), len(h.Spec.Metrics), err)
		return 0, "", c.complain(h, autoscalingv2.ScalingActive, reason, fmt.Errorf("the HPA was unable to compute the replica count: %w", err))
	}
	set(h, autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+best.name)
	why := best.name + " above target"
	if best.replicas < t.current {
		why = "All metrics below target"
	}
	return best.replicas, why, nil
}

// toleranceOf is that of the behavior, else the daemon's.
func (c *Controller) toleranceOf(h *autoscaler) tolerance {
	out := tolerance{c.env.Config.Autoscaler.Tolerance, c.env.Config.Autoscaler.Tolerance}
	if b := h.Spec.Behavior; b != nil {
		if b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
			out.up = b.ScaleUp.Tolerance.AsApproximateFloat64()
		}
		if b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
			out.down = b.ScaleDown.Tolerance.AsApproximateFloat64()
		}
	}
	return out
}

func (c *Controller) rescale(ctx context.Context, h *autoscaler, at string, s *autoscalingv1.Scale, desired int32, reason string, p *past, now time.Time) error {
	current := s.Spec.Replicas
	s.Spec.Replicas = desired
	body, err := json.Marshal(s)
	if err == nil {
		err = c.metrics.send(ctx, http.MethodPut, at, nil, bytes.NewReader(body), &autoscalingv1.Scale{})
	}
	if err != nil {
		h.Status.DesiredReplicas = current
		c.env.Events.Event(h, corev1.EventTypeWarning, "FailedRescale", "New size: %d; reason: %s; error: %v", desired, reason, err)
		return c.complain(h, autoscalingv2.AbleToScale, "FailedUpdateScale", fmt.Errorf("the HPA controller was unable to update the target scale: %w", err))
	}
	set(h, autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", desired))
	c.env.Events.Event(h, corev1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", desired, reason)
	c.log.Info("scaled", zap.String("namespace", h.Namespace), zap.String("name", h.Name), zap.Int32("from", current), zap.Int32("to", desired), zap.String("reason", reason))
	p.scaled(current, desired, now)
	h.Status.LastScaleTime = &metav1.Time{Time: now}
	return nil
}

// complain writes what is wrong into a condition and an Event.
func (c *Controller) complain(h *autoscaler, t autoscalingv2.HorizontalPodAutoscalerConditionType, reason string, err error) error {
	set(h, t, corev1.ConditionFalse, reason, err.Error())
	c.env.Events.Event(h, corev1.EventTypeWarning, reason, "%v", err)
	return err
}

func set(h *autoscaler, t autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, message string) {
	for i := range h.Status.Conditions {
		if c := &h.Status.Conditions[i]; c.Type == t {
			if c.Status != status {
				c.LastTransitionTime = metav1.Now()
			}
			c.Status, c.Reason, c.Message = status, reason, message
			return
		}
	}
	h.Status.Conditions = append(h.Status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
		Type: t, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.Now(),
	})
}
