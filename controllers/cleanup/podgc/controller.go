// Package podgc removes pods that nobody else will: pods of nodes that are gone, pods that were deleted before they had
// a node, pods being deleted on nodes that are declared out of service, and the oldest of too many finished pods.
//
// Reads pods and nodes; deletes pods without grace. A node must have been gone for 40 seconds, and be gone by a direct
// read as well, before its pods are removed.
package podgc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/controllers/podstate"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

const (
	// quarantine is how long a node must be gone before its pods are.
	quarantine = 40 * time.Second
	// batch is how many finished pods beyond the threshold are let pile up before they are counted: counting costs a
	// walk over all pods.
	batch = 50
)

// finishedKey is the key under which finished pods are counted. No pod and no node has it.
var finishedKey = reconcile.Key{Namespace: "*", Name: "finished"}

// Controller removes pods.
type Controller struct {
	env      control.Env
	log      *zap.Logger
	pods     control.Pods
	nodes    *client.Informer[corev1.Node]
	queue    *control.Queue
	finished atomic.Int64 // since the last count
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, log: env.Log.Named("podgc"), pods: env.Pods(), nodes: env.Nodes()}
	c.queue = env.Queue("pod_gc", 4, c.reconcile)
	c.pods.OnChange(c.podChanged)
	c.nodes.OnChange(func(old, now *corev1.Node) {
		switch {
		case now == nil:
			c.queue.AddAfter(reconcile.Key{Name: old.Name}, quarantine)
		case slices.ContainsFunc(now.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService }):
			c.queue.Add(reconcile.Key{Name: now.Name})
		}
	})
	return c, nil
}

// podChanged looks at a pod when one of our cases may have come about.
func (c *Controller) podChanged(old, now *corev1.Pod) {
	if now == nil {
		return
	}
	if podstate.Terminal(now) && (old == nil || !podstate.Terminal(old)) && c.finished.Add(1) >= batch {
		c.queue.Add(finishedKey)
	}
	switch {
	case unscheduledTerminating(now):
		c.queue.Add(reconcile.KeyOf(now))
	case now.Spec.NodeName == "":
	case now.DeletionTimestamp != nil && (old == nil || old.DeletionTimestamp == nil), old == nil, old.Spec.NodeName == "":
		c.check(now.Spec.NodeName)
	}
}

// check looks at a node's pods if the node is gone, after the quarantine, or out of service, now.
func (c *Controller) check(name string) {
	node, ok := c.nodes.Get("", name)
	switch {
	case !ok:
		c.queue.AddAfter(reconcile.Key{Name: name}, quarantine)
	case slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService }):
		c.queue.Add(reconcile.Key{Name: name})
	}
}

// Run removes pods until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() {
		c.queue.Add(finishedKey)
		for pod := range c.pods.All() {
			if unscheduledTerminating(pod) {
				c.queue.Add(reconcile.KeyOf(pod))
			} else if pod.Spec.NodeName != "" {
				c.check(pod.Spec.NodeName)
			}
		}
	})
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	switch {
	case key == finishedKey:
		return reconcile.Result{}, c.removeFinished(ctx)
	case key.Namespace == "":
		return reconcile.Result{}, c.removeOfNode(ctx, key.Name)
	}
	pod, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || !unscheduledTerminating(pod) {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, c.remove(ctx, pod, "it was deleted before it had a node", "")
}

// removeOfNode removes the pods of a node that is gone, and those being deleted on one that is out of service.
func (c *Controller) removeOfNode(ctx context.Context, name string) error {
	pods := c.pods.OnNode(name)
	if len(pods) == 0 {
		return nil
	}
	node, err := client.Nodes.Get(ctx, c.env.API, "", name)
	switch {
	case apierrors.IsNotFound(err):
		for _, pod := range pods {
			if err := c.remove(ctx, pod, "its node is gone", "PodGC: node no longer exists"); err != nil {
				return err
			}
		}
		return nil
	case err != nil:
		return fmt.Errorf("read node %s: %w", name, err)
	}
	for _, pod := range pods {
		if outOfService(pod, node) {
			if err := c.remove(ctx, pod, "its node is out of service", ""); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Controller) removeFinished(ctx context.Context) error {
	c.finished.Store(0)
	for _, pod := range surplus(slices.Collect(c.pods.All()), c.env.Config.TerminatedPods) {
		if err := c.remove(ctx, pod, "there are too many finished pods", ""); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes the pod without grace. One that has not ended is marked failed first, with a reason if disruption says
// so, for whoever counts failed pods.
func (c *Controller) remove(ctx context.Context, pod *corev1.Pod, why, disruption string) error {
	if !podstate.Terminal(pod) {
		status := map[string]any{"phase": corev1.PodFailed}
		if disruption != "" {
			status["conditions"] = []map[string]any{{
				"type": corev1.DisruptionTarget, "status": corev1.ConditionTrue, "reason": "DeletionByPodGC", "message": disruption,
				"lastTransitionTime": metav1.Now(),
			}}
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
		if err != nil {
			return fmt.Errorf("encode status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		if _, err := client.Pods.Patch(ctx, c.env.API, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch, "status"); control.Gone(err) != nil {
			return fmt.Errorf("mark pod %s/%s failed: %w", pod.Namespace, pod.Name, err)
		}
	}
	err := client.Pods.Delete(ctx, c.env.API, pod.Namespace, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if control.Gone(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("remove pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	c.log.Info("removed pod", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.String("reason", why))
	return nil
}
