package bind

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/scheduler/framework"
	"hardway/shared/client"
)

// Why is what a pod without a node is told.
type Why struct {
	Reason, Message string  // of the condition
	Event           string  // reason of the Event; "": none
	Nominated       *string // the node that it is promised from now on, "" for none; nil: as before
}

// Explain writes why pod has no node, as its condition and as an Event. What the pod says already is not written again.
func (b *Binder) Explain(ctx context.Context, pod *corev1.Pod, why Why) {
	if why.Event != "" {
		b.events.Event(pod, corev1.EventTypeWarning, why.Event, "%s", why.Message)
	}
	if said(pod, why) {
		return
	}
	b.do(ctx, func(ctx context.Context) {
		patch, err := condition(pod, why, metav1.Now())
		if err == nil {
			err = b.patchStatus(ctx, pod, patch)
		}
		if err != nil && !apierrors.IsNotFound(err) {
			b.log.Warn("cannot write why a pod has no node", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.Error(err))
		}
	})
}

func (b *Binder) patchStatus(ctx context.Context, pod *corev1.Pod, patch []byte) error {
	_, err := client.Pods.Patch(ctx, b.api, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch, "status")
	return err
}

func said(pod *corev1.Pod, why Why) bool {
	if why.Nominated != nil && pod.Status.NominatedNodeName != *why.Nominated {
		return false
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			return c.Status == corev1.ConditionFalse && c.Reason == why.Reason && c.Message == why.Message
		}
	}
	return false
}

// condition is the patch that sets PodScheduled to False.
func condition(pod *corev1.Pod, why Why, now metav1.Time) ([]byte, error) {
	since := now
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
			since = c.LastTransitionTime
		}
	}
	status := map[string]any{"conditions": []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: why.Reason, Message: why.Message,
		LastTransitionTime: since, ObservedGeneration: pod.Generation,
	}}}
	if why.Nominated != nil {
		status["nominatedNodeName"] = nil
		if *why.Nominated != "" {
			status["nominatedNodeName"] = *why.Nominated
		}
	}
	return statusPatch(pod, status)
}

// statusPatch is a patch of the status of this very pod.
func statusPatch(pod *corev1.Pod, status map[string]any) ([]byte, error) {
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return nil, fmt.Errorf("write status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return data, nil
}

// Evict makes room for pod: it takes the promise of the node from pods of lower priority and removes the victims. done
// is told what came of it, from another goroutine.
func (b *Binder) Evict(ctx context.Context, pod *framework.Pod, way *framework.Eviction, done func(error)) {
	b.flying.Go(func() {
		began := time.Now()
		var failed error
		for _, p := range way.Outranked {
			b.withdraw(ctx, p.Pod)
		}
		results := make(chan error, len(way.Victims))
		for _, v := range way.Victims {
			if v.DeletionTimestamp != nil {
				results <- nil
				continue
			}
			if !b.do(ctx, func(ctx context.Context) { results <- b.remove(ctx, v.Pod, pod.Pod, way.Node) }) {
				results <- ctx.Err()
			}
		}
		for range way.Victims {
			if err := <-results; err != nil && failed == nil {
				failed = err
			}
		}
		if b.Observe != nil {
			b.Observe("Preemption", pod.Spec.SchedulerName, began, failed)
		}
		done(failed)
	})
}

// withdraw ends the promise of a node to a pod.
func (b *Binder) withdraw(ctx context.Context, pod *corev1.Pod) {
	if pod.Status.NominatedNodeName == "" {
		return
	}
	b.do(ctx, func(ctx context.Context) {
		patch, err := statusPatch(pod, map[string]any{"nominatedNodeName": nil})
		if err == nil {
			err = b.patchStatus(ctx, pod, patch)
		}
		if err != nil && !apierrors.IsNotFound(err) {
			b.log.Warn("cannot take the promise of a node back", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.Error(err))
		}
	})
}

// remove tells a victim why it must go, and deletes it.
func (b *Binder) remove(ctx context.Context, victim, pod *corev1.Pod, node string) error {
	patch, err := statusPatch(victim, map[string]any{"conditions": []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
		Message:            fmt.Sprintf("%s: preempting to accommodate a higher priority pod", pod.Spec.SchedulerName),
		LastTransitionTime: metav1.Now(), ObservedGeneration: victim.Generation,
	}}})
	if err != nil {
		return err
	}
	err = b.patchStatus(ctx, victim, patch)
	if err == nil {
		err = client.Pods.Delete(ctx, b.api, victim.Namespace, victim.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &victim.UID}})
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("evict pod %s/%s from %s: %w", victim.Namespace, victim.Name, node, err)
	}
	b.log.Info("evicted", zap.String("namespace", victim.Namespace), zap.String("name", victim.Name), zap.String("node", node), zap.String("for", pod.Namespace+"/"+pod.Name))
	b.events.Event(victim, corev1.EventTypeNormal, "Preempted", "Preempted by pod %s on node %s", pod.UID, node)
	return nil
}

// Release takes the devices from a claim that nobody uses, so that others can be found for it. The claim as it was when that was decided
// must be the one that the API has.
func (b *Binder) Release(ctx context.Context, c *resourcev1.ResourceClaim) {
	c = c.DeepCopy()
	c.Status.Allocation, c.Status.ReservedFor, c.Status.Devices = nil, nil, nil
	b.do(ctx, func(ctx context.Context) {
		if _, err := client.ResourceClaims.Update(ctx, b.api, c, "status"); err != nil {
			b.log.Warn("cannot take the devices from a claim", zap.String("namespace", c.Namespace), zap.String("name", c.Name), zap.Error(err))
			return
		}
		b.log.Info("took the devices from a claim, for no node reaches them", zap.String("namespace", c.Namespace), zap.String("name", c.Name))
	})
}
