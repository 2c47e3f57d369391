// Package ttl deletes Jobs that ended, when the time that they set for that (spec.ttlSecondsAfterFinished) is over.
//
// Reads and deletes Jobs. The server's word on the Job is asked for before it goes: its time may have been changed.
package ttl

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller deletes Jobs.
type Controller struct {
	env   control.Env
	log   *zap.Logger
	jobs  control.Jobs
	queue *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, log: env.Log.Named("ttl"), jobs: env.Jobs()}
	c.queue = env.Queue("ttl_jobs_to_delete", env.Config.WorkersFor("concurrent-ttl-after-finished-syncs"), c.reconcile)
	c.jobs.OnChange(func(_, now *batchv1.Job) {
		if now != nil && !ends(now).IsZero() {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	return c, nil
}

// ends is when a Job's time after its end is over, zero when it has none or has not ended.
func ends(job *batchv1.Job) time.Time {
	if job.Spec.TTLSecondsAfterFinished == nil || job.DeletionTimestamp != nil {
		return time.Time{}
	}
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second)
		}
	}
	return time.Time{}
}

// Run deletes until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.jobs.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	job, ok := c.jobs.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	if rest, over := left(job, time.Now()); !over {
		return reconcile.Result{RequeueAfter: rest}, nil
	}
	job, err := client.Jobs.Get(ctx, c.env.API, key.Namespace, key.Name)
	if err != nil {
		return reconcile.Result{}, control.Gone(err)
	}
	if rest, over := left(job, time.Now()); !over {
		return reconcile.Result{RequeueAfter: rest}, nil
	}
	err = client.Jobs.Delete(ctx, c.env.API, key.Namespace, key.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion}, PropagationPolicy: new(metav1.DeletePropagationForeground),
	})
	if control.Gone(err) != nil && !apierrors.IsConflict(err) {
		return reconcile.Result{}, fmt.Errorf("delete Job %s, whose time is over: %w", key, err)
	}
	c.log.Info("deleted Job whose time is over", zap.String("namespace", key.Namespace), zap.String("name", key.Name))
	return reconcile.Result{}, err
}

// left is how long a Job stays; over says that it goes now. Neither: it has no such time.
func left(job *batchv1.Job, now time.Time) (rest time.Duration, over bool) {
	at := ends(job)
	if at.IsZero() {
		return 0, false
	}
	rest = at.Sub(now)
	return max(rest, 0), rest <= 0
}
