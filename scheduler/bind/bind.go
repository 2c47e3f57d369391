// Package bind carries a decision out while the scheduling loop goes on, and tells users what became of their pod: the
// binding, the condition PodScheduled of a pod without a node, and Events for both.
package bind

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"hardway/scheduler/framework"
	"hardway/shared/client"
)

// atOnce is how many requests are under way at most; then Bind and Explain block, which slows the loop down to what the
// API can take.
const atOnce = 100

// patience is how long one request may take.
const patience = 15 * time.Second

// Recorder writes Events.
type Recorder interface {
	Event(obj runtime.Object, eventtype, reason, format string, args ...any)
}

// Binder sends decisions to the API. Make it with New.
type Binder struct {
	api    *client.API
	events Recorder
	log    *zap.Logger
	slots  chan struct{}
	flying sync.WaitGroup
}

// New makes a Binder.
func New(api *client.API, events Recorder, log *zap.Logger) *Binder {
	return &Binder{api: api, events: events, log: log, slots: make(chan struct{}, atOnce)}
}

// Wait blocks until no request is under way.
func (b *Binder) Wait() { b.flying.Wait() }

// do runs f beside the caller; false when ctx ended before there was room.
func (b *Binder) do(ctx context.Context, f func(ctx context.Context)) bool {
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	b.flying.Go(func() {
		defer func() { <-b.slots }()
		// A decision that has been taken is carried out, even while the daemon stops.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		f(ctx)
	})
	return true
}

// Bind tells the API that pod goes to node, and done what came of it, from another goroutine. An error means that the
// pod has no node by this try.
func (b *Binder) Bind(ctx context.Context, plugin framework.Bind, pod *framework.Pod, node string, done func(error)) {
	started := b.do(ctx, func(ctx context.Context) {
		err := plugin.Bind(ctx, pod, node)
		if err == nil {
			b.events.Event(pod.Pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node)
		} else {
			b.log.Info("binding refused", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name),
				zap.String("node", node), zap.Error(err))
		}
		done(err)
	})
	if !started {
		done(ctx.Err())
	}
}

// Explain writes why pod has no node, as its condition and, with an Event reason, as an Event. What the pod's condition
// says already is not written again.
func (b *Binder) Explain(ctx context.Context, pod *corev1.Pod, reason, event, message string) {
	if event != "" {
		b.events.Event(pod, corev1.EventTypeWarning, event, "%s", message)
	}
	if said(pod, reason, message) {
		return
	}
	b.do(ctx, func(ctx context.Context) {
		patch, err := condition(pod, reason, message, metav1.Now())
		if err == nil {
			_, err = client.Pods.Patch(ctx, b.api, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch, "status")
		}
		if err != nil && !apierrors.IsNotFound(err) {
			b.log.Warn("cannot write why a pod has no node", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.Error(err))
		}
	})
}

func said(pod *corev1.Pod, reason, message string) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			return c.Status == corev1.ConditionFalse && c.Reason == reason && c.Message == message
		}
	}
	return false
}

// condition is the patch that sets PodScheduled to False.
func condition(pod *corev1.Pod, reason, message string, now metav1.Time) ([]byte, error) {
	since := now
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
			since = c.LastTransitionTime
		}
	}
	patch := map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, Message: message,
			LastTransitionTime: since, ObservedGeneration: pod.Generation,
		}}},
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("write condition of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return data, nil
}
