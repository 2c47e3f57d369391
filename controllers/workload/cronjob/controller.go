// Package cronjob starts a Job whenever the schedule of a CronJob says so.
//
// Reads CronJobs and Jobs; writes Jobs and the status of CronJobs. A time has one name for its Job, so the server
// refuses to start it twice, whoever tries. Times that passed while nobody looked are made up for by the latest alone.
package cronjob

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

var kind = batchv1.SchemeGroupVersion.WithKind("CronJob")

// behind is how long to wait for a cache that has not got to our last write.
const behind = 100 * time.Millisecond

// Controller runs all CronJobs.
type Controller struct {
	env      control.Env
	cronJobs *client.Informer[batchv1.CronJob]
	jobs     control.Jobs
	queue    *control.Queue
	written  control.Written
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, jobs: env.Jobs(), cronJobs: client.CronJobs.Informer(env.Informers, client.Options{})}
	c.queue = env.Queue("cronjob", env.Config.WorkersFor("concurrent-cron-job-syncs"), c.reconcile)
	c.cronJobs.OnChange(func(old, now *batchv1.CronJob) {
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		} else {
			c.written.Forget(old.UID)
		}
	})
	c.jobs.OnChange(func(old, now *batchv1.Job) {
		for _, job := range []*batchv1.Job{old, now} {
			if job == nil {
				continue
			}
			if ref := metav1.GetControllerOfNoCopy(job); ref != nil && ref.Kind == kind.Kind {
				c.queue.Add(reconcile.Key{Namespace: job.Namespace, Name: ref.Name})
			}
		}
	})
	return c, nil
}

// Run starts Jobs until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.cronJobs.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	cj, ok := c.cronJobs.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	if c.written.Behind(cj) {
		return reconcile.Result{RequeueAfter: behind}, nil
	}
	schedule, err := parse(cj)
	if err != nil {
		c.env.Events.Event(cj, corev1.EventTypeWarning, "UnparseableSchedule", "%v", err)
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("CronJob %s: %w", key, err))
	}
	p := makePlan(facts{cj: cj, schedule: schedule, jobs: c.jobs.OwnedBy(cj.UID), now: time.Now()})
	return reconcile.Result{RequeueAfter: p.again}, c.apply(ctx, cj, p)
}

// apply carries a plan out. The Job is made before the status says so: should we be stopped in between, its name is
// found taken.
func (c *Controller) apply(ctx context.Context, cj *batchv1.CronJob, p plan) error {
	if p.warning != "" {
		c.env.Events.Event(cj, eventType(p.warning), p.warning, "%s", p.why)
	}
	for _, job := range p.ended {
		c.env.Events.Event(cj, corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %s", job.Name, condition(job))
	}
	var errs []error
	for _, job := range append(p.stop, p.history...) {
		errs = append(errs, c.remove(ctx, cj, job))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if p.start != nil {
		job, err := c.startJob(ctx, cj, *p.start)
		if err != nil {
			return err
		}
		if job != nil {
			p.status.Active = append(p.status.Active, reference(job))
		}
	}
	return c.report(ctx, cj, p.status)
}

func eventType(reason string) string {
	if reason == "JobAlreadyActive" {
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}

func condition(job *batchv1.Job) string {
	if succeeded(job) {
		return string(batchv1.JobComplete)
	}
	return string(batchv1.JobFailed)
}

func (c *Controller) startJob(ctx context.Context, cj *batchv1.CronJob, at time.Time) (*batchv1.Job, error) {
	job, err := client.Jobs.Create(ctx, c.env.API, newJob(cj, at))
	switch {
	case err == nil:
		c.env.Events.Event(cj, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %s", job.Name)
		return job, nil
	case control.Ending(err):
		return nil, nil
	case apierrors.IsAlreadyExists(err):
		return c.existing(ctx, cj, at)
	default:
		c.env.Events.Event(cj, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return nil, fmt.Errorf("create Job %s/%s: %w", cj.Namespace, jobName(cj, at), err)
	}
}

// existing is the Job whose name was taken, if it is ours and works.
func (c *Controller) existing(ctx context.Context, cj *batchv1.CronJob, at time.Time) (*batchv1.Job, error) {
	job, err := client.Jobs.Get(ctx, c.env.API, cj.Namespace, jobName(cj, at))
	if err != nil {
		return nil, control.Gone(err)
	}
	if !metav1.IsControlledBy(job, cj) || finished(job) {
		return nil, nil
	}
	return job, nil
}

func (c *Controller) remove(ctx context.Context, cj *batchv1.CronJob, job *batchv1.Job) error {
	err := client.Jobs.Delete(ctx, c.env.API, job.Namespace, job.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &job.UID}, PropagationPolicy: new(metav1.DeletePropagationBackground),
	})
	if control.Gone(err) != nil && !apierrors.IsConflict(err) {
		c.env.Events.Event(cj, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return fmt.Errorf("delete Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	c.env.Events.Event(cj, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %s", job.Name)
	return nil
}

// report writes the status if it changed.
func (c *Controller) report(ctx context.Context, cj *batchv1.CronJob, status batchv1.CronJobStatus) error {
	if same(cj.Status, status) {
		return nil
	}
	out := *cj
	out.Status = status
	made, err := client.CronJobs.Update(ctx, c.env.API, &out, "status")
	if err != nil {
		return control.Gone(fmt.Errorf("write status of CronJob %s/%s: %w", cj.Namespace, cj.Name, err))
	}
	c.written.Note(made)
	return nil
}

// same compares without the versions of the active Jobs, which change all the time.
func same(a, b batchv1.CronJobStatus) bool {
	if len(a.Active) != len(b.Active) {
		return false
	}
	for i := range a.Active {
		if a.Active[i].UID != b.Active[i].UID {
			return false
		}
	}
	a.Active, b.Active = nil, nil
	return equality.Semantic.DeepEqual(a, b)
}
