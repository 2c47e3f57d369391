// Package daemonset keeps one pod of each DaemonSet on every node where one belongs.
//
// Reads DaemonSets, nodes, pods and ControllerRevisions; writes pods, revisions and the status of DaemonSets. A pod is
// pinned to its node by affinity and bound by the scheduler. A memory of its own writes stands in for what the cache
// does not show yet, so that a late watch never puts two pods on a node.
package daemonset

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/flowcontrol"

	"hardway/controllers/control"
	"hardway/controllers/ledger"
	"hardway/controllers/owner"
	"hardway/controllers/workload/history"
	"hardway/controllers/workload/podset"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

var kind = appsv1.SchemeGroupVersion.WithKind("DaemonSet")

// Pauses before a pod that ended is replaced: doubling, by node.
const (
	firstPause = time.Second
	lastPause  = 15 * time.Minute
)

// Controller keeps the pods of all DaemonSets.
type Controller struct {
	env     control.Env
	sets    *client.Informer[appsv1.DaemonSet]
	nodes   *client.Informer[corev1.Node]
	keeper  *podset.Keeper
	history history.Keeper
	queue   *control.Queue
	pauses  *flowcontrol.Backoff // by DaemonSet and node
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{
		env: env, sets: env.DaemonSets(), nodes: env.Nodes(), history: history.Keeper{API: env.API, Revisions: env.Revisions()},
		pauses: flowcontrol.NewBackOff(firstPause, lastPause),
	}
	c.keeper = podset.New(env, kind, func(ctx context.Context, namespace, name string) (metav1.Object, error) {
		return client.DaemonSets.Get(ctx, env.API, namespace, name)
	})
	c.queue = env.Queue("daemonset", env.Config.WorkersFor("concurrent-daemonset-syncs"), c.reconcile)
	c.sets.OnChange(func(old, now *appsv1.DaemonSet) {
		if old != nil && (now == nil || old.UID != now.UID) {
			c.keeper.Forget(old.UID)
		}
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	c.nodes.OnChange(func(old, now *corev1.Node) {
		if old == nil || now == nil || !maps.Equal(old.Labels, now.Labels) || !slices.EqualFunc(old.Spec.Taints, now.Spec.Taints, sameTaint) {
			control.Keys(c.queue, c.sets.All())
		}
	})
	c.keeper.Wake(c.queue, c.adopters)
	return c, nil
}

func sameTaint(a, b corev1.Taint) bool {
	return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect
}

// adopters names the DaemonSets whose selector matches the pod.
func (c *Controller) adopters(pod *corev1.Pod) iter.Seq[reconcile.Key] {
	return func(yield func(reconcile.Key) bool) {
		for ds := range c.sets.InNamespace(pod.Namespace) {
			if owner.Selects(ds.Spec.Selector, pod.Labels) && !yield(reconcile.KeyOf(ds)) {
				return
			}
		}
	}
}

// Run keeps pods until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.keeper.Clear()
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.sets.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	ds, ok := c.sets.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err == nil && selector.Empty() {
		err = errors.New("it is empty")
	}
	if err != nil {
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("selector of DaemonSet %s: %w", key, err))
	}
	pods, err := c.keeper.Claim(ctx, ds, selector, c.keeper.Candidates(ds))
	if err != nil {
		return reconcile.Result{}, err
	}
	revisions, err := c.revisions(ctx, ds, selector)
	if err != nil {
		return reconcile.Result{}, c.collided(ctx, ds, err)
	}
	now := time.Now()
	unseen, living, err := c.keeper.Settle(ctx, ds, pods, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	hash := revisions.Current.Labels[appsv1.ControllerRevisionHashLabelKey]
	p, err := makePlan(facts{
		ds: ds, hash: hash, nodes: slices.Collect(c.nodes.All()), pods: pods, gone: hidden(pods, living), unseen: perNode(unseen),
		pause: func(pod *corev1.Pod) time.Duration { return c.pause(ds, pod, now) }, now: now,
	})
	if err != nil {
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("plan DaemonSet %s: %w", key, err))
	}
	err = errors.Join(c.apply(ctx, ds, hash, p), c.report(ctx, ds, p.status), c.forget(ctx, ds, pods, revisions))
	if len(unseen)+len(p.create) > 0 && (p.again == 0 || p.again > ledger.Doubt) {
		p.again = ledger.Doubt + time.Second
	}
	return reconcile.Result{RequeueAfter: p.again}, err
}

func perNode(unseen map[string]string) map[string]int {
	out := map[string]int{}
	for _, node := range unseen {
		out[node]++
	}
	return out
}

// hidden names the pods that were deleted already.
func hidden(pods, living []*corev1.Pod) map[string]bool {
	out := map[string]bool{}
	for _, pod := range pods {
		out[pod.Name] = true
	}
	for _, pod := range living {
		delete(out, pod.Name)
	}
	return out
}

// pause is how long the pod has to be left alone.
func (c *Controller) pause(ds *appsv1.DaemonSet, pod *corev1.Pod, now time.Time) time.Duration {
	id := string(ds.UID) + "/" + nodeOf(pod)
	if c.pauses.IsInBackOffSinceUpdate(id, now) {
		return c.pauses.Get(id)
	}
	c.pauses.Next(id, now)
	return 0
}

func (c *Controller) subject(ds *appsv1.DaemonSet) history.Subject {
	s := history.Subject{Meta: ds, Kind: kind, Template: &ds.Spec.Template, Labels: ds.Spec.Template.Labels, LabelHash: true}
	if n := ds.Status.CollisionCount; n != nil {
		s.Collision = *n
	}
	return s
}

// revisions brings the history up to date.
func (c *Controller) revisions(ctx context.Context, ds *appsv1.DaemonSet, selector labels.Selector) (history.Plan, error) {
	s := c.subject(ds)
	have, err := c.history.Owned(ctx, s, selector, func(ctx context.Context) (metav1.Object, error) {
		return client.DaemonSets.Get(ctx, c.env.API, ds.Namespace, ds.Name)
	})
	if err != nil {
		return history.Plan{}, err
	}
	return c.history.Sync(ctx, s, have)
}

// collided counts a collision of revision names, so that the next try uses another one.
func (c *Controller) collided(ctx context.Context, ds *appsv1.DaemonSet, err error) error {
	var collision *history.Collision
	if !errors.As(err, &collision) {
		return err
	}
	status := ds.Status.DeepCopy()
	if status.CollisionCount == nil {
		status.CollisionCount = new(int32)
	}
	*status.CollisionCount++
	return errors.Join(err, c.report(ctx, ds, *status))
}

// apply carries a plan out.
func (c *Controller) apply(ctx context.Context, ds *appsv1.DaemonSet, hash string, p plan) error {
	for _, pod := range p.ended {
		c.env.Events.Event(ds, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it", pod.Namespace, pod.Name, nodeOf(pod))
	}
	create := c.keeper.Create(ctx, ds, len(p.create), func(i int) (*corev1.Pod, string) { return newPod(ds, hash, p.create[i]), p.create[i] })
	return errors.Join(create, c.keeper.Remove(ctx, ds, p.remove))
}

// report writes the status if it changed.
func (c *Controller) report(ctx context.Context, ds *appsv1.DaemonSet, status appsv1.DaemonSetStatus) error {
	if equality.Semantic.DeepEqual(ds.Status, status) {
		return nil
	}
	out := *ds
	out.Status = status
	if _, err := client.DaemonSets.Update(ctx, c.env.API, &out, "status"); control.Gone(err) != nil {
		return fmt.Errorf("write status of DaemonSet %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	return nil
}

// forget deletes revisions that no pod has and that are beyond the limit.
func (c *Controller) forget(ctx context.Context, ds *appsv1.DaemonSet, pods []*corev1.Pod, h history.Plan) error {
	used := map[string]bool{}
	for _, pod := range pods {
		used[pod.Labels[appsv1.ControllerRevisionHashLabelKey]] = true
	}
	return c.history.Remove(ctx, history.Surplus(h.Old, ds.Spec.RevisionHistoryLimit, func(r *appsv1.ControllerRevision) bool {
		return used[r.Labels[appsv1.ControllerRevisionHashLabelKey]]
	}))
}
