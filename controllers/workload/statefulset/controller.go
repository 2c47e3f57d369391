// Package statefulset keeps the pods of StatefulSets: each with a name, an order and claims of its own.
//
// Reads StatefulSets, pods, ControllerRevisions and PersistentVolumeClaims; writes pods, claims, revisions and the
// status of StatefulSets. A place is never taken twice: a pod's name is its place, and the server refuses a second one.
// A pod that ended is deleted and made again, one that is being deleted is waited for.
package statefulset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/controllers/ledger"
	"hardway/controllers/owner"
	"hardway/controllers/workload/history"
	"hardway/controllers/workload/podset"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

var kind = appsv1.SchemeGroupVersion.WithKind("StatefulSet")

// claimGoing is how long to wait before a claim that is being deleted is looked at again.
const claimGoing = 5 * time.Second

// Controller keeps the pods of all StatefulSets.
type Controller struct {
	env     control.Env
	sets    *client.Informer[appsv1.StatefulSet]
	claims  *client.Informer[corev1.PersistentVolumeClaim]
	keeper  *podset.Keeper
	history history.Keeper
	queue   *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, sets: env.StatefulSets(), claims: env.Claims().Informer, history: history.Keeper{API: env.API, Revisions: env.Revisions()}}
	c.keeper = podset.New(env, kind, func(ctx context.Context, namespace, name string) (metav1.Object, error) {
		return client.StatefulSets.Get(ctx, env.API, namespace, name)
	})
	c.queue = env.Queue("statefulset", env.Config.WorkersFor("concurrent-statefulset-syncs"), c.reconcile)
	c.sets.OnChange(func(old, now *appsv1.StatefulSet) {
		if old != nil && (now == nil || old.UID != now.UID) {
			c.keeper.Forget(old.UID)
		}
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	c.keeper.Wake(c.queue, c.adopters)
	return c, nil
}

// adopters names the sets that the pod could belong to.
func (c *Controller) adopters(pod *corev1.Pod) iter.Seq[reconcile.Key] {
	return func(yield func(reconcile.Key) bool) {
		for set := range c.sets.InNamespace(pod.Namespace) {
			if _, ours := ordinalOf(set, pod.Name); ours && owner.Selects(set.Spec.Selector, pod.Labels) && !yield(reconcile.KeyOf(set)) {
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
	set, ok := c.sets.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err == nil && selector.Empty() {
		err = errors.New("it is empty")
	}
	if err != nil {
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("selector of StatefulSet %s: %w", key, err))
	}
	pods, err := c.claim(ctx, set, selector)
	if err != nil {
		return reconcile.Result{}, err
	}
	versions, err := c.versions(ctx, set, selector)
	if err != nil {
		return reconcile.Result{}, c.collided(ctx, set, err)
	}
	now := time.Now()
	unseen, living, err := c.keeper.Settle(ctx, set, pods, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	f := facts{set: set, current: versions.current, update: versions.update, pods: pods, unseen: names(unseen), gone: hidden(pods, living), now: now}
	p := makePlan(f)
	held, failure := c.apply(ctx, f, p)
	err = errors.Join(failure, c.report(ctx, set, p.status), c.forget(ctx, set, pods, versions, p.status))
	return reconcile.Result{RequeueAfter: next(p, held, len(unseen)+len(p.create) > 0)}, err
}

// next is the time until the next look.
func next(p plan, held, waiting bool) time.Duration {
	again := p.again
	if held && (again == 0 || again > claimGoing) {
		again = claimGoing
	}
	if waiting && (again == 0 || again > ledger.Doubt) {
		again = ledger.Doubt + time.Second
	}
	return again
}

func names(unseen map[string]string) map[string]bool {
	out := make(map[string]bool, len(unseen))
	for name := range unseen {
		out[name] = true
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

// claim returns the set's pods, adopted ones included.
func (c *Controller) claim(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector) ([]*corev1.Pod, error) {
	var candidates []*corev1.Pod
	for _, pod := range c.keeper.Candidates(set) {
		if _, ours := ordinalOf(set, pod.Name); ours {
			candidates = append(candidates, pod)
		}
	}
	return c.keeper.Claim(ctx, set, selector, candidates)
}

// pair is the revision that pods had until now, and the one that they are to have.
type pair struct {
	current, update version
	old             []*appsv1.ControllerRevision
}

// versions brings the history up to date.
func (c *Controller) versions(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector) (pair, error) {
	s := history.Subject{Meta: set, Kind: kind, Template: &set.Spec.Template, Labels: set.Spec.Selector.MatchLabels}
	if n := set.Status.CollisionCount; n != nil {
		s.Collision = *n
	}
	revisions, err := c.history.Owned(ctx, s, selector, func(ctx context.Context) (metav1.Object, error) {
		return client.StatefulSets.Get(ctx, c.env.API, set.Namespace, set.Name)
	})
	if err != nil {
		return pair{}, err
	}
	h, err := c.history.Sync(ctx, s, revisions)
	if err != nil {
		return pair{}, err
	}
	update := version{name: h.Current.Name, template: &set.Spec.Template}
	out := pair{current: update, update: update, old: h.Old}
	for _, r := range h.Old {
		if r.Name == set.Status.CurrentRevision {
			out.current.name = r.Name
			out.current.template, err = history.Template(r)
		}
	}
	return out, err
}

// collided counts a collision of revision names, so that the next try uses another one.
func (c *Controller) collided(ctx context.Context, set *appsv1.StatefulSet, err error) error {
	var collision *history.Collision
	if !errors.As(err, &collision) {
		return err
	}
	status := set.Status.DeepCopy()
	if status.CollisionCount == nil {
		status.CollisionCount = new(int32)
	}
	*status.CollisionCount++
	return errors.Join(err, c.report(ctx, set, *status))
}

// apply carries a plan out. held says that a claim which a pod needs is on its way out.
func (c *Controller) apply(ctx context.Context, f facts, p plan) (held bool, err error) {
	var errs []error
	holds := map[int]bool{}
	for _, r := range p.claims {
		hold, err := c.keepClaims(ctx, f.set, r, p)
		holds[r.ordinal] = hold
		errs = append(errs, err)
		if err != nil {
			holds[r.ordinal] = true
		}
	}
	for _, r := range p.fix {
		errs = append(errs, c.label(ctx, f.set, r))
	}
	var create []int
	for _, ordinal := range p.create {
		if holds[ordinal] {
			held = true
			if f.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
				break
			}
			continue
		}
		create = append(create, ordinal)
	}
	errs = append(errs, c.keeper.Create(ctx, f.set, len(create), func(i int) (*corev1.Pod, string) {
		return newPod(f.set, versionFor(f, create[i]), create[i]), ""
	}), c.keeper.Remove(ctx, f.set, p.remove))
	return held, errors.Join(errs...)
}

// keepClaims makes the claims of a replica that lack, when it is about to be created or waits to start, and gives those
// that exist the owners that the retention policy wants. hold says that one of them is being deleted.
func (c *Controller) keepClaims(ctx context.Context, set *appsv1.StatefulSet, r replica, p plan) (hold bool, err error) {
	starting := r.pod != nil && r.pod.Status.Phase == corev1.PodPending && !r.going && !r.condemned
	for _, ordinal := range p.create {
		starting = starting || ordinal == r.ordinal && !r.condemned
	}
	var condemned *corev1.Pod
	if r.condemned {
		condemned = r.pod
	}
	var errs []error
	for i := range set.Spec.VolumeClaimTemplates {
		t := &set.Spec.VolumeClaimTemplates[i]
		claim, ok := c.claims.Get(set.Namespace, claimName(set, t, r.ordinal))
		switch {
		case !ok && starting:
			errs = append(errs, c.createClaim(ctx, set, newClaim(set, t, r.ordinal)))
		case ok && claim.DeletionTimestamp != nil:
			hold = true
		case ok:
			if refs := ownersWanted(set, claim, condemned); !equality.Semantic.DeepEqual(refs, claim.OwnerReferences) {
				out := claim.DeepCopy()
				out.OwnerReferences = refs
				if _, err := client.PersistentVolumeClaims.Update(ctx, c.env.API, out); control.Gone(err) != nil {
					errs = append(errs, fmt.Errorf("change owners of claim %s/%s: %w", claim.Namespace, claim.Name, err))
				}
			}
		}
	}
	return hold, errors.Join(errs...)
}

func (c *Controller) createClaim(ctx context.Context, set *appsv1.StatefulSet, claim *corev1.PersistentVolumeClaim) error {
	_, err := client.PersistentVolumeClaims.Create(ctx, c.env.API, claim)
	switch {
	case err == nil:
		c.env.Events.Event(set, corev1.EventTypeNormal, "SuccessfulCreate", "create Claim %s of StatefulSet %s successful", claim.Name, set.Name)
	case apierrors.IsAlreadyExists(err):
	default:
		if !control.Ending(err) {
			c.env.Events.Event(set, corev1.EventTypeWarning, "FailedCreate", "create Claim %s of StatefulSet %s failed: %v", claim.Name, set.Name, err)
		}
		return fmt.Errorf("create claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

// label puts the labels of a pod right.
func (c *Controller) label(ctx context.Context, set *appsv1.StatefulSet, r replica) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": r.pod.UID, "labels": identity(set, r.ordinal)}})
	if err != nil {
		return fmt.Errorf("encode labels of pod %s/%s: %w", r.pod.Namespace, r.pod.Name, err)
	}
	if _, err := client.Pods.Patch(ctx, c.env.API, r.pod.Namespace, r.pod.Name, types.StrategicMergePatchType, patch); control.Gone(err) != nil {
		return fmt.Errorf("label pod %s/%s: %w", r.pod.Namespace, r.pod.Name, err)
	}
	return nil
}

// report writes the status if it changed.
func (c *Controller) report(ctx context.Context, set *appsv1.StatefulSet, status appsv1.StatefulSetStatus) error {
	if equality.Semantic.DeepEqual(set.Status, status) {
		return nil
	}
	out := *set
	out.Status = status
	if _, err := client.StatefulSets.Update(ctx, c.env.API, &out, "status"); control.Gone(err) != nil {
		return fmt.Errorf("write status of StatefulSet %s/%s: %w", set.Namespace, set.Name, err)
	}
	return nil
}

// forget deletes revisions that no pod has and that are beyond the limit.
func (c *Controller) forget(ctx context.Context, set *appsv1.StatefulSet, pods []*corev1.Pod, v pair, status appsv1.StatefulSetStatus) error {
	used := map[string]bool{v.current.name: true, v.update.name: true, status.CurrentRevision: true}
	for _, pod := range pods {
		used[revisionOf(pod)] = true
	}
	return c.history.Remove(ctx, history.Surplus(v.old, set.Spec.RevisionHistoryLimit, func(r *appsv1.ControllerRevision) bool { return used[r.Name] }))
}
