// Package replicaset keeps as many pods running as each ReplicaSet asks for.
//
// Reads ReplicaSets and pods; writes pods, their owner references, and the status of ReplicaSets. It adopts matching
// orphans, releases pods that no longer match, creates what lacks in batches that double while they succeed, and
// removes what costs least to lose. A ledger of its own writes stands in for what the cache does not show yet, so that
// however late the watch is there are never more pods than asked for.
package replicaset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/controllers/ledger"
	"hardway/controllers/owner"
	"hardway/controllers/podstate"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

var kind = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")

// Controller keeps the replicas of all ReplicaSets.
type Controller struct {
	env   control.Env
	log   *zap.Logger
	sets  control.ReplicaSets
	pods  control.Pods
	book  *ledger.Book
	queue *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, log: env.Log.Named("replicaset"), sets: env.ReplicaSets(), pods: env.Pods(), book: ledger.New()}
	c.queue = env.Queue("replicaset", env.Config.WorkersFor("concurrent-replicaset-syncs"), c.reconcile)
	c.sets.OnChange(func(old, now *appsv1.ReplicaSet) {
		if now == nil {
			c.book.Forget(old.UID)
			return
		}
		if old != nil && old.UID != now.UID {
			c.book.Forget(old.UID)
		}
		c.queue.Add(reconcile.KeyOf(now))
	})
	c.pods.OnChange(c.podChanged)
	return c, nil
}

// Run keeps replicas until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.book.Clear()
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.sets.All()) })
}

// podChanged wakes the ReplicaSet that owns the pod, or owned it, or could adopt it. Who could adopt an orphan is asked
// only when the pod is new or its labels or owners changed.
func (c *Controller) podChanged(old, now *corev1.Pod) {
	same := old != nil && now != nil && owner.ControllerUID(old) == owner.ControllerUID(now) && maps.Equal(old.Labels, now.Labels)
	for _, pod := range []*corev1.Pod{old, now} {
		if pod == nil {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
			if ref.Kind == kind.Kind {
				c.queue.Add(reconcile.Key{Namespace: pod.Namespace, Name: ref.Name})
			}
			continue
		}
		if pod != now || same || pod.DeletionTimestamp != nil {
			continue
		}
		for set := range c.sets.InNamespace(pod.Namespace) {
			if owner.Selects(set.Spec.Selector, pod.Labels) {
				c.queue.Add(reconcile.KeyOf(set))
			}
		}
	}
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	set, ok := c.sets.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err == nil && selector.Empty() {
		err = errors.New("it is empty")
	}
	if err != nil {
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("selector of ReplicaSet %s: %w", key, err))
	}
	active, terminating, err := c.claim(ctx, set, selector)
	if err != nil {
		return reconcile.Result{}, err
	}
	now := time.Now()
	unseen, replicas, err := c.settle(ctx, set, active, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	p := makePlan(facts{set: set, active: replicas, unseen: unseen, related: c.related(set), now: now})
	failure := errors.Join(c.create(ctx, set, p.create), c.remove(ctx, set, p.remove))
	status, next := makeStatus(set, active, terminating, failure, now)
	if err := c.report(ctx, set, status); err != nil {
		return reconcile.Result{}, errors.Join(failure, err)
	}
	if unseen+p.create > 0 && (next == 0 || next > ledger.Doubt) {
		next = ledger.Doubt + time.Second
	}
	return reconcile.Result{RequeueAfter: next}, failure
}

// claim returns the set's pods, adopted ones included: those that count and those that are on their way out.
func (c *Controller) claim(ctx context.Context, set *appsv1.ReplicaSet, selector labels.Selector) (active, terminating []*corev1.Pod, err error) {
	var candidates []*corev1.Pod
	for _, pod := range append(c.pods.OwnedBy(set.UID), c.pods.Orphans(set.Namespace)...) {
		switch {
		case podstate.Active(pod):
			candidates = append(candidates, pod)
		case podstate.Terminating(pod) && owner.ControllerUID(pod) == set.UID && selector.Matches(labels.Set(pod.Labels)):
			terminating = append(terminating, pod)
		}
	}
	active, err = owner.Claim(ctx, owner.Claimer{
		Owner: set, Ref: *metav1.NewControllerRef(set, kind),
		Fresh: func(ctx context.Context) (metav1.Object, error) {
			return client.ReplicaSets.Get(ctx, c.env.API, set.Namespace, set.Name)
		},
		Patch: func(ctx context.Context, name string, patch []byte) error {
			_, err := client.Pods.Patch(ctx, c.env.API, set.Namespace, name, types.StrategicMergePatchType, patch)
			return err
		},
	}, selector, candidates)
	return active, terminating, err
}

// settle brings the ledger up to date and returns how many created pods the cache lacks, and which of the visible ones
// are not deleted already.
func (c *Controller) settle(ctx context.Context, set *appsv1.ReplicaSet, active []*corev1.Pod, now time.Time) (int, []*corev1.Pod, error) {
	unseen, err := c.book.Settle(set.UID,
		func(name string) bool { _, ok := c.pods.Get(set.Namespace, name); return ok },
		func(name string) (bool, error) {
			pod, err := client.Pods.Get(ctx, c.env.API, set.Namespace, name)
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil && owner.ControllerUID(pod) == set.UID, err
		}, now)
	if err != nil {
		return 0, nil, fmt.Errorf("look for pods that ReplicaSet %s/%s created: %w", set.Namespace, set.Name, err)
	}
	living := make(map[types.UID]bool, len(active))
	for _, pod := range active {
		living[pod.UID] = true
	}
	gone := c.book.Gone(set.UID, func(uid types.UID) bool { return living[uid] })
	var replicas []*corev1.Pod
	for _, pod := range active {
		if !gone[pod.UID] {
			replicas = append(replicas, pod)
		}
	}
	return unseen, replicas, nil
}

// related returns the pods of all ReplicaSets of the same owner.
func (c *Controller) related(set *appsv1.ReplicaSet) []*corev1.Pod {
	uid := owner.ControllerUID(set)
	if uid == "" {
		return c.pods.OwnedBy(set.UID)
	}
	var out []*corev1.Pod
	for _, sibling := range c.sets.OwnedBy(uid) {
		out = append(out, c.pods.OwnedBy(sibling.UID)...)
	}
	return out
}

// create makes n pods: one first, then twice as many each time while all succeed, so that a quota or a bad template
// costs one refused request and not n.
func (c *Controller) create(ctx context.Context, set *appsv1.ReplicaSet, n int) error {
	for batch := 1; n > 0; batch *= 2 {
		batch = min(batch, n)
		errs := make([]error, batch)
		var wg sync.WaitGroup
		for i := range batch {
			wg.Go(func() { errs[i] = c.createOne(ctx, set) })
		}
		wg.Wait()
		if err := firstReal(errs); err != nil {
			return err
		}
		if errors.Join(errs...) != nil {
			return nil //nolint:nilerr // the namespace is going: nothing more can be made
		}
		n -= batch
	}
	return nil
}

// firstReal returns the first error that is not merely the end of the namespace.
func firstReal(errs []error) error {
	for _, err := range errs {
		if err != nil && !control.Ending(err) {
			return err
		}
	}
	return nil
}

// nameTries is how many names are tried for one pod: some collide by chance in a set of thousands.
const nameTries = 5

func (c *Controller) createOne(ctx context.Context, set *appsv1.ReplicaSet) error {
	var err error
	for range nameTries {
		pod := newPod(set)
		c.book.Creating(set.UID, pod.Name, time.Now())
		if _, err = client.Pods.Create(ctx, c.env.API, pod); err == nil {
			c.log.Info("created pod", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.String("replicaset", set.Name))
			c.env.Events.Event(set, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", pod.Name)
			return nil
		}
		if control.Refused(err) {
			c.book.NotCreated(set.UID, pod.Name)
		}
		if !apierrors.IsAlreadyExists(err) {
			break
		}
	}
	if !control.Ending(err) {
		c.env.Events.Event(set, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
	}
	return err
}

// remove deletes the pods, all at once.
func (c *Controller) remove(ctx context.Context, set *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	errs := make([]error, len(pods))
	var wg sync.WaitGroup
	for i, pod := range pods {
		wg.Go(func() { errs[i] = c.removeOne(ctx, set, pod) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // they are likely all the same
		}
	}
	return nil
}

func (c *Controller) removeOne(ctx context.Context, set *appsv1.ReplicaSet, pod *corev1.Pod) error {
	err := client.Pods.Delete(ctx, c.env.API, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // gone, or another pod by that name
		c.book.Deleted(set.UID, pod.UID, time.Now())
		return nil
	}
	if err != nil {
		c.env.Events.Event(set, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return err
	}
	c.book.Deleted(set.UID, pod.UID, time.Now())
	c.log.Info("deleted pod", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.String("replicaset", set.Name))
	c.env.Events.Event(set, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", pod.Name)
	return nil
}

// report writes the status if it changed.
func (c *Controller) report(ctx context.Context, set *appsv1.ReplicaSet, status appsv1.ReplicaSetStatus) error {
	if sameStatus(set.Status, status) {
		return nil
	}
	out := *set
	out.Status = status
	if _, err := client.ReplicaSets.Update(ctx, c.env.API, &out, "status"); control.Gone(err) != nil {
		return fmt.Errorf("write status of ReplicaSet %s/%s: %w", set.Namespace, set.Name, err)
	}
	return nil
}
