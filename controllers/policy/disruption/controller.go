// Package disruption says in the status of each PodDisruptionBudget how many pods may be taken away now.
//
// Reads budgets, pods, and the sizes of what owns pods: ReplicaSets and their Deployments, ReplicationControllers and
// StatefulSets from caches, all others through their scale subresource. Writes the status of budgets. What is not known allows nothing, and the condition says what that is.
package disruption

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/cleanup/resources"
	"hardway/controllers/control"
	"hardway/controllers/podstate"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller reports on all budgets.
type Controller struct {
	env      control.Env
	budgets  *client.Informer[policyv1.PodDisruptionBudget]
	pods     control.Pods
	sets     control.ReplicaSets
	deploys  *client.Informer[appsv1.Deployment]
	stateful *client.Informer[appsv1.StatefulSet]
	rcs      *client.Informer[corev1.ReplicationController]
	known    *resources.Known
	queue    *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	known, err := resources.NewKnown(env.API.Config())
	if err != nil {
		return nil, err
	}
	c := &Controller{
		env: env, known: known, budgets: client.PodDisruptionBudgets.Informer(env.Informers, client.Options{}), pods: env.Pods(), sets: env.ReplicaSets(),
		deploys: env.Deployments(), stateful: env.StatefulSets(), rcs: client.ReplicationControllers.Informer(env.Informers, client.Options{}),
	}
	c.queue = env.Queue("disruption", 2, c.reconcile)
	c.budgets.OnChange(func(_, now *policyv1.PodDisruptionBudget) {
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	c.pods.OnChange(func(old, now *corev1.Pod) {
		for _, pod := range []*corev1.Pod{old, now} {
			if pod != nil {
				c.wake(pod)
			}
		}
	})
	// A new size matters only to budgets over its pods, but which those are only the selectors know.
	c.deploys.OnChange(func(old, now *appsv1.Deployment) {
		if old != nil && now != nil && old.Generation != now.Generation {
			c.wakeAll(now.Namespace)
		}
	})
	c.stateful.OnChange(func(old, now *appsv1.StatefulSet) {
		if old != nil && now != nil && old.Generation != now.Generation {
			c.wakeAll(now.Namespace)
		}
	})
	c.sets.OnChange(func(old, now *appsv1.ReplicaSet) {
		if old != nil && now != nil && old.Generation != now.Generation {
			c.wakeAll(now.Namespace)
		}
	})
	return c, nil
}

func (c *Controller) wake(pod *corev1.Pod) {
	for pdb := range c.budgets.InNamespace(pod.Namespace) {
		if s, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector); err == nil && s.Matches(labels.Set(pod.Labels)) {
			c.queue.Add(reconcile.KeyOf(pdb))
		}
	}
}

func (c *Controller) wakeAll(namespace string) {
	for pdb := range c.budgets.InNamespace(namespace) {
		c.queue.Add(reconcile.KeyOf(pdb))
	}
}

// Run reports until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.budgets.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	pdb, ok := c.budgets.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
	if err != nil {
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("selector of PodDisruptionBudget %s: %w", key, err))
	}
	var pods []*corev1.Pod
	for pod := range c.pods.InNamespace(pdb.Namespace) {
		if selector.Matches(labels.Set(pod.Labels)) && !podstate.Terminal(pod) {
			pods = append(pods, pod)
		}
	}
	status, again := makeStatus(facts{pdb: pdb, pods: pods, expected: func() (int, error) { return c.expected(ctx, pods) }, now: time.Now()})
	if equality.Semantic.DeepEqual(pdb.Status, status) {
		return reconcile.Result{RequeueAfter: again}, nil
	}
	out := *pdb
	out.Status = status
	// The version guards against an eviction that the cache does not show: it has written to the status, too.
	if _, err := client.PodDisruptionBudgets.Update(ctx, c.env.API, &out, "status"); control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("write status of PodDisruptionBudget %s: %w", key, err)
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// expected adds up the sizes of all that own the pods.
func (c *Controller) expected(ctx context.Context, pods []*corev1.Pod) (int, error) {
	sizes, asked := map[types.UID]int{}, map[types.UID]bool{}
	for _, pod := range pods {
		ref := metav1.GetControllerOfNoCopy(pod)
		if ref == nil {
			return 0, fmt.Errorf("found no controller ref for pod %q", pod.Name)
		}
		if asked[ref.UID] {
			continue
		}
		asked[ref.UID] = true
		uid, n, err := c.size(ctx, pod.Namespace, ref)
		if err != nil {
			return 0, fmt.Errorf("the size of %s %q, which owns pod %q, is not known: %w", ref.Kind, ref.Name, pod.Name, err)
		}
		sizes[uid] = n
	}
	total := 0
	for _, n := range sizes {
		total += n
	}
	return total, nil
}

var errGone = errors.New("it is not there")

// size is how many pods an owner wants; a Deployment speaks for its ReplicaSets.
func (c *Controller) size(ctx context.Context, namespace string, ref *metav1.OwnerReference) (types.UID, int, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", 0, err
	}
	switch gv.WithKind(ref.Kind).GroupKind() {
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "ReplicaSet"}:
		rs, ok := c.sets.Get(namespace, ref.Name)
		if !ok || rs.UID != ref.UID {
			return "", 0, errGone
		}
		up := metav1.GetControllerOfNoCopy(rs)
		if up == nil || up.Kind != "Deployment" {
			return rs.UID, replicas(rs.Spec.Replicas), nil
		}
		d, ok := c.deploys.Get(namespace, up.Name)
		if !ok || d.UID != up.UID {
			return "", 0, errGone
		}
		return d.UID, replicas(d.Spec.Replicas), nil
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "StatefulSet"}:
		s, ok := c.stateful.Get(namespace, ref.Name)
		if !ok || s.UID != ref.UID {
			return "", 0, errGone
		}
		return s.UID, replicas(s.Spec.Replicas), nil
	case schema.GroupKind{Kind: "ReplicationController"}:
		rc, ok := c.rcs.Get(namespace, ref.Name)
		if !ok || rc.UID != ref.UID {
			return "", 0, errGone
		}
		return rc.UID, replicas(rc.Spec.Replicas), nil
	}
	s, err := c.known.Scale(ctx, namespace, gv.Group, ref.Kind, ref.Name)
	if err != nil {
		return "", 0, err
	}
	if s.UID != ref.UID {
		return "", 0, errGone
	}
	return ref.UID, int(s.Spec.Replicas), nil
}

func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}
