// Package taint evicts pods from nodes with NoExecute taints that they do not tolerate, or no longer.
//
// Reads nodes and pods; deletes pods, after it has said why in their condition DisruptionTarget. The time of a
// toleration runs from when the taint was first seen here, on the local monotonic clock, and is counted on a standby as
// well.
package taint

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/controllers/podstate"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller evicts pods.
type Controller struct {
	env   control.Env
	log   *zap.Logger
	nodes *client.Informer[corev1.Node]
	pods  control.Pods
	queue *control.Queue

	mu   sync.Mutex // guards seen
	seen map[string]map[corev1.Taint]time.Time
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, log: env.Log.Named("taint"), nodes: env.Nodes(), pods: env.Pods(), seen: map[string]map[corev1.Taint]time.Time{}}
	c.queue = env.Queue("taint_eviction_controller_pods", 8, c.reconcile)
	c.nodes.OnChange(func(old, now *corev1.Node) {
		if now == nil {
			c.note(old.Name, nil, time.Now())
			return
		}
		if old != nil && sameNoExecute(old.Spec.Taints, now.Spec.Taints) {
			return
		}
		c.note(now.Name, now.Spec.Taints, time.Now())
		control.Keys(c.queue, slices.Values(c.pods.OnNode(now.Name)))
	})
	c.pods.OnChange(func(old, now *corev1.Pod) {
		same := old != nil && now != nil && old.Spec.NodeName == now.Spec.NodeName && len(old.Spec.Tolerations) == len(now.Spec.Tolerations)
		if now == nil || now.Spec.NodeName == "" || same {
			return
		}
		if node, ok := c.nodes.Get("", now.Spec.NodeName); ok && len(noExecute(node.Spec.Taints)) > 0 {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	return c, nil
}

// Run evicts until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() {
		for node := range c.nodes.All() {
			if len(noExecute(node.Spec.Taints)) > 0 {
				control.Keys(c.queue, slices.Values(c.pods.OnNode(node.Name)))
			}
		}
	})
}

// note remembers since when each NoExecute taint of a node has been seen.
func (c *Controller) note(node string, taints []corev1.Taint, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.seen[node]
	delete(c.seen, node)
	for _, t := range noExecute(taints) {
		since, ok := before[t]
		if !ok {
			since = now
		}
		if c.seen[node] == nil {
			c.seen[node] = map[corev1.Taint]time.Time{}
		}
		c.seen[node][t] = since
	}
}

// since says for how long a taint of a node has been seen.
func (c *Controller) since(node string, now time.Time) func(corev1.Taint) time.Duration {
	return func(t corev1.Taint) time.Duration {
		c.mu.Lock()
		defer c.mu.Unlock()
		if at, ok := c.seen[node][identity(t)]; ok {
			return now.Sub(at)
		}
		return 0
	}
}

// identity is the taint without its time.
func identity(t corev1.Taint) corev1.Taint {
	return corev1.Taint{Key: t.Key, Value: t.Value, Effect: t.Effect}
}

func noExecute(taints []corev1.Taint) []corev1.Taint {
	var out []corev1.Taint
	for _, t := range taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			out = append(out, identity(t))
		}
	}
	return out
}

func sameNoExecute(a, b []corev1.Taint) bool {
	return slices.Equal(noExecute(a), noExecute(b))
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	pod, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	node, ok := c.nodes.Get("", pod.Spec.NodeName)
	if !ok {
		return reconcile.Result{}, nil
	}
	v := makePlan(pod, node.Spec.Taints, c.since(node.Name, time.Now()))
	switch {
	case !v.leave:
		return reconcile.Result{}, nil
	case v.after > 0:
		return reconcile.Result{RequeueAfter: v.after}, nil
	default:
		return reconcile.Result{}, c.evict(ctx, pod)
	}
}

// evict says why and deletes the pod.
func (c *Controller) evict(ctx context.Context, pod *corev1.Pod) error {
	if !podstate.Terminal(pod) {
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": pod.UID},
			"status": map[string]any{"conditions": []map[string]any{{
				"type": corev1.DisruptionTarget, "status": corev1.ConditionTrue, "reason": "DeletionByTaintManager",
				"message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": metav1.Now(),
			}}},
		})
		if err != nil {
			return fmt.Errorf("encode condition of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		if _, err := client.Pods.Patch(ctx, c.env.API, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch, "status"); control.Gone(err) != nil {
			return fmt.Errorf("announce eviction of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
	}
	c.env.Events.Event(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", pod.Namespace, pod.Name)
	err := client.Pods.Delete(ctx, c.env.API, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if control.Gone(err) != nil {
		return fmt.Errorf("evict pod %s/%s from node %s: %w", pod.Namespace, pod.Name, pod.Spec.NodeName, err)
	}
	c.log.Info("evicted pod", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.String("node", pod.Spec.NodeName))
	return nil
}
