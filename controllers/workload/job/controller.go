// Package job runs the pods of Jobs until enough of them have succeeded or too many have failed.
//
// Reads Jobs and pods; writes pods, their finalizers and the status of Jobs. Every pod is counted once: it carries a
// finalizer until the status that counts it is stored, and its uid stands in the status until the finalizer is gone.
// The status is written with its version, and nothing is decided from a Job older than the last status that was written.
package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/controllers/ledger"
	"hardway/controllers/owner"
	"hardway/controllers/workload/podset"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

var kind = batchv1.SchemeGroupVersion.WithKind("Job")

// behind is how long to wait for a cache that has not got to our last write.
const behind = 100 * time.Millisecond

// Controller runs all Jobs.
type Controller struct {
	env     control.Env
	jobs    control.Jobs
	keeper  *podset.Keeper
	queue   *control.Queue
	written control.Written
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, jobs: env.Jobs()}
	c.keeper = podset.New(env, kind, func(ctx context.Context, namespace, name string) (metav1.Object, error) {
		return client.Jobs.Get(ctx, env.API, namespace, name)
	})
	c.keeper.Finalizer = batchv1.JobTrackingFinalizer
	c.queue = env.Queue("job", env.Config.WorkersFor("concurrent-job-syncs"), c.reconcile)
	c.jobs.OnChange(func(old, now *batchv1.Job) {
		if old != nil && (now == nil || old.UID != now.UID) {
			c.keeper.Forget(old.UID)
			c.written.Forget(old.UID)
			c.queue.Add(reconcile.KeyOf(old)) // its pods may wait for us to let them go
		}
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	c.keeper.Wake(c.queue, c.adopters)
	return c, nil
}

// adopters names the Jobs whose selector matches the pod, and the Job that left the pod behind with its finalizer.
func (c *Controller) adopters(pod *corev1.Pod) iter.Seq[reconcile.Key] {
	return func(yield func(reconcile.Key) bool) {
		if name := pod.Labels[batchv1.JobNameLabel]; name != "" && tracked(pod) && !yield(reconcile.Key{Namespace: pod.Namespace, Name: name}) {
			return
		}
		for job := range c.jobs.InNamespace(pod.Namespace) {
			if owner.Selects(job.Spec.Selector, pod.Labels) && !yield(reconcile.KeyOf(job)) {
				return
			}
		}
	}
}

// Run runs Jobs until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.keeper.Clear()
	return c.queue.Run(ctx, func() {
		control.Keys(c.queue, c.jobs.All())
		for pod := range c.keeper.Pods.All() {
			if tracked(pod) && pod.Labels[batchv1.JobNameLabel] != "" {
				c.queue.Add(reconcile.Key{Namespace: pod.Namespace, Name: pod.Labels[batchv1.JobNameLabel]})
			}
		}
	})
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	if err := c.releaseStrays(ctx, key); err != nil {
		return reconcile.Result{}, err
	}
	job, ok := c.jobs.Get(key.Namespace, key.Name)
	if !ok || job.Spec.ManagedBy != nil && *job.Spec.ManagedBy != batchv1.JobControllerName {
		return reconcile.Result{}, nil
	}
	if c.written.Behind(job) {
		return reconcile.Result{RequeueAfter: behind}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err == nil && selector.Empty() {
		err = errors.New("it is empty")
	}
	if err != nil {
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("selector of Job %s: %w", key, err))
	}
	candidates := c.keeper.Candidates(job)
	if over(job) {
		candidates = c.keeper.Pods.OwnedBy(job.UID) // one that is over adopts nothing
	}
	pods, err := c.keeper.Claim(ctx, job, selector, candidates)
	if err != nil {
		return reconcile.Result{}, err
	}
	now := time.Now()
	unseen, living, err := c.keeper.Settle(ctx, job, pods, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	p := makePlan(facts{job: job, pods: pods, gone: hidden(pods, living), unseen: unseen, now: now})
	if err := c.apply(ctx, job, p); err != nil {
		return reconcile.Result{}, err
	}
	if len(unseen)+len(p.create) > 0 && (p.again == 0 || p.again > ledger.Doubt) {
		p.again = ledger.Doubt + time.Second
	}
	return reconcile.Result{RequeueAfter: p.again}, nil
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

// apply carries a plan out, in the order that counting needs. When pods could not be made or taken away the status
// still says what is true, but for their number: the next pass reports that.
func (c *Controller) apply(ctx context.Context, job *batchv1.Job, p plan) error {
	stripped := c.release(ctx, p.strip)
	failure := errors.Join(stripped,
		c.keeper.Create(ctx, job, len(p.create), func(i int) (*corev1.Pod, string) {
			return newPod(job, p.create[i]), strconv.Itoa(p.create[i].index)
		}),
		c.keeper.Remove(ctx, job, p.stop))
	if stripped == nil {
		failure = errors.Join(failure, c.keeper.Remove(ctx, job, p.strip))
	}
	if failure != nil {
		p.status.Active, p.status.Ready, p.status.Terminating = job.Status.Active, job.Status.Ready, job.Status.Terminating
	}
	if err := c.report(ctx, job, p.status); err != nil {
		return errors.Join(failure, err)
	}
	return errors.Join(failure, c.release(ctx, p.release))
}

// report writes the status if it changed, and tells of what a user waits for.
func (c *Controller) report(ctx context.Context, job *batchv1.Job, status batchv1.JobStatus) error {
	if equality.Semantic.DeepEqual(withoutEmpty(job.Status), withoutEmpty(status)) {
		return nil
	}
	out := *job
	out.Status = status
	made, err := client.Jobs.Update(ctx, c.env.API, &out, "status")
	if err != nil {
		return control.Gone(fmt.Errorf("write status of Job %s/%s: %w", job.Namespace, job.Name, err))
	}
	c.written.Note(made)
	for _, now := range status.Conditions {
		if !slices.ContainsFunc(job.Status.Conditions, func(was batchv1.JobCondition) bool { return was.Type == now.Type && was.Status == now.Status }) {
			c.tell(job, now)
		}
	}
	return nil
}

// withoutEmpty makes an empty list of uncounted pods equal to none.
func withoutEmpty(s batchv1.JobStatus) batchv1.JobStatus {
	if u := s.UncountedTerminatedPods; u != nil && len(u.Succeeded)+len(u.Failed) == 0 {
		s.UncountedTerminatedPods = nil
	}
	return s
}

func (c *Controller) tell(job *batchv1.Job, now batchv1.JobCondition) {
	switch {
	case now.Type == batchv1.JobComplete:
		c.env.Events.Event(job, corev1.EventTypeNormal, "Completed", "Job completed")
	case now.Type == batchv1.JobFailed:
		c.env.Events.Event(job, corev1.EventTypeWarning, now.Reason, "%s", now.Message)
	case now.Type == batchv1.JobSuspended && now.Status == corev1.ConditionTrue:
		c.env.Events.Event(job, corev1.EventTypeNormal, "Suspended", "Job suspended")
	case now.Type == batchv1.JobSuspended:
		c.env.Events.Event(job, corev1.EventTypeNormal, "Resumed", "Job resumed")
	}
}

// releasesAtOnce bounds the patches that are on their way for one Job.
const releasesAtOnce = 32

// release takes our finalizer off the pods.
func (c *Controller) release(ctx context.Context, pods []*corev1.Pod) error {
	var failure error
	for part := range slices.Chunk(pods, releasesAtOnce) {
		errs := make([]error, len(part))
		var wg sync.WaitGroup
		for i, pod := range part {
			wg.Go(func() { errs[i] = c.releaseOne(ctx, pod) })
		}
		wg.Wait()
		failure = errors.Join(failure, errors.Join(errs...))
	}
	return failure
}

func (c *Controller) releaseOne(ctx context.Context, pod *corev1.Pod) error {
	if !tracked(pod) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": pod.UID, "$deleteFromPrimitiveList/finalizers": []string{batchv1.JobTrackingFinalizer},
	}})
	if err != nil {
		return fmt.Errorf("encode release of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	_, err = client.Pods.Patch(ctx, c.env.API, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch)
	if control.Gone(err) != nil && !apierrors.IsConflict(err) { // conflict: another pod by that name
		return fmt.Errorf("release pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// releaseStrays lets go the pods of a Job that is gone: nobody counts them any more. Whether it is gone is asked of the
// server, because a cache may lack a Job that was just made.
func (c *Controller) releaseStrays(ctx context.Context, key reconcile.Key) error {
	job, cached := c.jobs.Get(key.Namespace, key.Name)
	var strays []*corev1.Pod
	for _, pod := range c.keeper.Pods.TrackedBy(key) {
		if ref := metav1.GetControllerOfNoCopy(pod); ref == nil || ref.Kind == kind.Kind && (!cached || ref.UID != job.UID) {
			strays = append(strays, pod)
		}
	}
	if len(strays) == 0 {
		return nil
	}
	there, err := client.Jobs.Get(ctx, c.env.API, key.Namespace, key.Name)
	if control.Gone(err) != nil {
		return fmt.Errorf("look for Job %s: %w", key, err)
	}
	if err == nil {
		strays = slices.DeleteFunc(strays, func(pod *corev1.Pod) bool {
			uid := owner.ControllerUID(pod)
			return uid == there.UID || uid == "" && owner.Selects(there.Spec.Selector, pod.Labels)
		})
	}
	return c.release(ctx, strays)
}
