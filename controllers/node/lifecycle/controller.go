// Package lifecycle judges whether nodes live and marks those that do not.
//
// Reads nodes, their Leases and pods; writes the conditions of nodes that fell silent (Unknown), the taints that follow
// from conditions, and the Ready condition of the pods on lost nodes. A node's life is measured on the local monotonic
// clock between arrivals of its Lease; each node is looked at when its time would be up and not before. How fast nodes
// are given up is limited per zone, and nothing is given up when all nodes of the cluster are silent at once.
package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/controllers/podstate"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller judges all nodes.
type Controller struct {
	env    control.Env
	log    *zap.Logger
	nodes  *client.Informer[corev1.Node]
	pods   control.Pods
	leases *client.Informer[coordinationv1.Lease]
	beats  *heartbeats
	zones  *zones
	queue  *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	every := normalEvery
	if rate := env.Config.NodeEvictionRate; rate > 0 {
		every = time.Duration(float64(time.Second) / rate)
	}
	c := &Controller{
		env: env, log: env.Log.Named("lifecycle"), nodes: env.Nodes(), pods: env.Pods(), leases: env.NodeLeases(),
		beats: newHeartbeats(), zones: newZones(every),
	}
	c.queue = env.Queue("node_lifecycle_controller", 8, c.reconcile)
	c.leases.OnChange(func(_, now *coordinationv1.Lease) {
		if now != nil {
			c.beats.lease(now, time.Now())
		}
	})
	c.nodes.OnChange(func(old, now *corev1.Node) {
		if now == nil {
			c.beats.forget(old.Name)
			return
		}
		c.beats.node(now, time.Now())
		c.queue.Add(reconcile.Key{Name: now.Name})
	})
	c.pods.OnChange(func(old, now *corev1.Pod) {
		// A pod that is bound to, or reported ready on, a lost node is not ready.
		if now != nil && now.Spec.NodeName != "" && (old == nil || old.Spec.NodeName == "" || (podstate.Ready(now) && !podstate.Ready(old))) {
			if node, ok := c.nodes.Get("", now.Spec.NodeName); ok && unreachable(node) {
				c.queue.Add(reconcile.Key{Name: node.Name})
			}
		}
	})
	return c, nil
}

// Run judges until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.nodes.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	node, ok := c.nodes.Get("", key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	now := time.Now()
	p := makePlan(facts{
		node: node, silence: c.beats.silence(node.Name, now), now: now,
		grace: c.env.Config.NodeMonitorGracePeriod, startup: c.env.Config.NodeStartupGracePeriod,
	})
	if len(p.conditions) > 0 {
		// The change comes back as news of the node; taints and pods follow then, from what was really written.
		return reconcile.Result{}, c.report(ctx, node, p.conditions)
	}
	taints, again := c.limited(node, p, now)
	if !sameTaints(node.Spec.Taints, taints) {
		if err := c.taint(ctx, node, taints); err != nil {
			return reconcile.Result{}, err
		}
	}
	if unreachable(node) {
		if err := c.markPods(ctx, node); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// limited returns the plan's taints as far as the limits on evictions allow them now, and when to look again.
func (c *Controller) limited(node *corev1.Node, p plan, now time.Time) ([]corev1.Taint, time.Duration) {
	if !p.evict && !evicting(p.taints) {
		return p.taints, p.again
	}
	zone, all := c.count(zoneOf(node))
	if all.ready == 0 {
		return withoutEviction(p.taints), soonest(p.again, c.zones.every)
	}
	if !p.evict {
		return p.taints, p.again
	}
	allowed, wait := c.zones.allow(zoneOf(node), zone, all, now)
	if allowed {
		return p.taints, p.again
	}
	return withoutNew(p.taints, node), soonest(p.again, wait)
}

// count tells how many nodes of the zone, and of all zones, are ready and how many are not.
func (c *Controller) count(zone string) (in, all tally) {
	for node := range c.nodes.All() {
		ready := condition(node.Status.Conditions, corev1.NodeReady)
		same := zoneOf(node) == zone
		if ready != nil && ready.Status == corev1.ConditionTrue {
			all.ready++
			if same {
				in.ready++
			}
			continue
		}
		all.lost++
		if same {
			in.lost++
		}
	}
	return in, all
}

func evicting(taints []corev1.Taint) bool {
	for _, t := range taints {
		if t.Effect == corev1.TaintEffectNoExecute && ours(t) {
			return true
		}
	}
	return false
}

func soonest(a, b time.Duration) time.Duration {
	if a == 0 || (b > 0 && b < a) {
		return b
	}
	return a
}

func unreachable(node *corev1.Node) bool {
	ready := condition(node.Status.Conditions, corev1.NodeReady)
	return ready != nil && ready.Status == corev1.ConditionUnknown
}

// report writes conditions of a silent node.
func (c *Controller) report(ctx context.Context, node *corev1.Node, conditions []corev1.NodeCondition) error {
	out := node.DeepCopy()
	out.Status.Conditions = merged(node.Status.Conditions, conditions)
	if _, err := client.Nodes.Update(ctx, c.env.API, out, "status"); control.Gone(err) != nil {
		return fmt.Errorf("report that node %s is silent: %w", node.Name, err)
	}
	c.log.Warn("node fell silent", zap.String("node", node.Name), zap.Duration("grace", c.env.Config.NodeMonitorGracePeriod))
	c.env.Events.Event(node, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", node.Name)
	return nil
}

// taint writes the taints, guarded by the version that they were made from.
func (c *Controller) taint(ctx context.Context, node *corev1.Node, taints []corev1.Taint) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion, "uid": node.UID},
		"spec":     map[string]any{"taints": taints},
	})
	if err != nil {
		return fmt.Errorf("encode taints of node %s: %w", node.Name, err)
	}
	if _, err := client.Nodes.Patch(ctx, c.env.API, "", node.Name, types.MergePatchType, patch); control.Gone(err) != nil {
		return fmt.Errorf("write taints of node %s: %w", node.Name, err)
	}
	c.log.Info("changed taints", zap.String("node", node.Name), zap.Int("taints", len(taints)))
	return nil
}

// markPods makes the pods of a lost node not ready, so that nothing is sent to them. Differs from upstream: pods of a
// node that reports NotReady itself are left to the node, which is alive and speaks for them.
func (c *Controller) markPods(ctx context.Context, node *corev1.Node) error {
	var errs []error
	for _, pod := range c.pods.OnNode(node.Name) {
		if !podstate.Ready(pod) {
			continue
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": pod.UID},
			"status": map[string]any{"conditions": []map[string]any{{
				"type": corev1.PodReady, "status": corev1.ConditionFalse, "lastTransitionTime": metav1.Now(),
			}}},
		})
		if err != nil {
			return fmt.Errorf("encode status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		if _, err := client.Pods.Patch(ctx, c.env.API, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch, "status"); control.Gone(err) != nil {
			errs = append(errs, fmt.Errorf("mark pod %s/%s on lost node %s: %w", pod.Namespace, pod.Name, node.Name, err))
			continue
		}
		c.env.Events.Event(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	}
	return errors.Join(errs...)
}
