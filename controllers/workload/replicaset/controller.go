// Package replicaset keeps as many pods running as each ReplicaSet asks for, and each ReplicationController.
//
// Reads sets and pods; writes pods, their owner references, and the status of sets. It adopts matching orphans, releases
// pods that no longer match, creates what lacks in batches that double while they succeed, and removes what costs least
// to lose. A memory of its own writes stands in for what the cache does not show yet, so that however late the watch is
// there are never more pods than asked for.
package replicaset

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/controllers/control"
	"hardway/controllers/ledger"
	"hardway/controllers/owner"
	"hardway/controllers/podstate"
	"hardway/controllers/workload/podset"
	"hardway/shared/reconcile"
)

// Controller keeps the replicas of all sets of one kind.
type Controller struct {
	source source
	keeper *podset.Keeper
	queue  *control.Queue
}

// New makes the controller of ReplicaSets and has its caches filled.
func New(env control.Env) (control.Runner, error) { return build(env, replicaSets(env)), nil }

// NewReplication makes the controller of ReplicationControllers and has its caches filled.
func NewReplication(env control.Env) (control.Runner, error) {
	return build(env, replicationControllers(env)), nil
}

func build(env control.Env, s source) *Controller {
	c := &Controller{source: s, keeper: podset.New(env, s.kind, s.fresh)}
	c.queue = env.Queue(s.name, env.Config.WorkersFor(s.flag), c.reconcile)
	s.onChange(func(old, now *appsv1.ReplicaSet) {
		if old != nil && (now == nil || old.UID != now.UID) {
			c.keeper.Forget(old.UID)
		}
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	c.keeper.Wake(c.queue, c.adopters)
	return c
}

// adopters names the sets whose selector matches the pod.
func (c *Controller) adopters(pod *corev1.Pod) iter.Seq[reconcile.Key] {
	return func(yield func(reconcile.Key) bool) {
		for set := range c.source.within(pod.Namespace) {
			if owner.Selects(set.Spec.Selector, pod.Labels) && !yield(reconcile.KeyOf(set)) {
				return
			}
		}
	}
}

// Run keeps replicas until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.keeper.Clear()
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.source.all()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	set, ok := c.source.get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err == nil && selector.Empty() {
		err = errors.New("it is empty")
	}
	if err != nil {
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("selector of %s %s: %w", c.source.kind.Kind, key, err))
	}
	active, terminating, err := c.claim(ctx, set, selector)
	if err != nil {
		return reconcile.Result{}, err
	}
	now := time.Now()
	unseen, replicas, err := c.keeper.Settle(ctx, set, active, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	p := makePlan(facts{set: set, active: replicas, unseen: len(unseen), related: c.source.family, now: now})
	create := func(int) (*corev1.Pod, string) {
		return podset.FromTemplate(set, c.source.kind, &set.Spec.Template, set.Name+"-"), ""
	}
	failure := errors.Join(c.keeper.Create(ctx, set, p.create, create), c.keeper.Remove(ctx, set, p.remove))
	status, next := makeStatus(set, active, terminating, failure, now)
	if err := c.report(ctx, set, status); err != nil {
		return reconcile.Result{}, errors.Join(failure, err)
	}
	if len(unseen)+p.create > 0 && (next == 0 || next > ledger.Doubt) {
		next = ledger.Doubt + time.Second
	}
	return reconcile.Result{RequeueAfter: next}, failure
}

// claim returns the set's pods, adopted ones included: those that count and those that are on their way out.
func (c *Controller) claim(ctx context.Context, set *appsv1.ReplicaSet, selector labels.Selector) (active, terminating []*corev1.Pod, err error) {
	var candidates []*corev1.Pod
	for _, pod := range c.keeper.Candidates(set) {
		switch {
		case podstate.Active(pod):
			candidates = append(candidates, pod)
		case podstate.Terminating(pod) && owner.ControllerUID(pod) == set.UID && selector.Matches(labels.Set(pod.Labels)):
			terminating = append(terminating, pod)
		}
	}
	active, err = c.keeper.Claim(ctx, set, selector, candidates)
	return active, terminating, err
}

// report writes the status if it changed.
func (c *Controller) report(ctx context.Context, set *appsv1.ReplicaSet, status appsv1.ReplicaSetStatus) error {
	if c.source.kind.Group == "" {
		status.TerminatingReplicas = nil // ReplicationControllers have no room for it
	}
	if sameStatus(set.Status, status) {
		return nil
	}
	out := *set
	out.Status = status
	if err := control.Gone(c.source.report(ctx, &out)); err != nil {
		return fmt.Errorf("write status of %s %s/%s: %w", c.source.kind.Kind, set.Namespace, set.Name, err)
	}
	return nil
}
