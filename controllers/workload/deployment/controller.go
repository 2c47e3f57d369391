// Package deployment rolls pod templates out: it makes one ReplicaSet for each template of a Deployment and moves the
// pods from the old ones to the current one, within the limits that the Deployment sets.
//
// Reads Deployments, ReplicaSets and, for the strategy Recreate, pods; writes ReplicaSets, the status of Deployments
// and their revision annotation. The plan is pure (plan.go); what is here reads the caches and carries the plan out.
// All writes are guarded by resource versions, a new ReplicaSet by its name, which follows from the template; so a plan
// from a stale cache is refused by the server and made again when the news arrives.
package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/controllers/owner"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller rolls out all Deployments.
type Controller struct {
	env         control.Env
	log         *zap.Logger
	deployments *client.Informer[appsv1.Deployment]
	sets        control.ReplicaSets
	pods        control.Pods
	queue       *control.Queue
	writes      writes
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, log: env.Log.Named("deployment"), deployments: env.Deployments(), sets: env.ReplicaSets(), pods: env.Pods()}
	c.queue = env.Queue("deployment", env.Config.WorkersFor("concurrent-deployment-syncs"), c.reconcile)
	c.deployments.OnChange(func(old, now *appsv1.Deployment) {
		if now == nil {
			c.writes.forget(old.UID)
			return
		}
		c.queue.Add(reconcile.KeyOf(now))
	})
	c.sets.OnChange(c.setChanged)
	c.pods.OnChange(c.podChanged)
	return c, nil
}

// Run rolls out until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.deployments.All()) })
}

// setChanged wakes the Deployment that owns the ReplicaSet, or owned it, or could adopt it.
func (c *Controller) setChanged(old, now *appsv1.ReplicaSet) {
	if now == nil {
		c.writes.sets.Forget(old.UID)
	}
	same := old != nil && now != nil && owner.ControllerUID(old) == owner.ControllerUID(now) && maps.Equal(old.Labels, now.Labels)
	for _, rs := range []*appsv1.ReplicaSet{old, now} {
		if rs == nil {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
			if ref.Kind == kind.Kind {
				c.queue.Add(reconcile.Key{Namespace: rs.Namespace, Name: ref.Name})
			}
			continue
		}
		if rs != now || same || rs.DeletionTimestamp != nil {
			continue
		}
		for d := range c.deployments.InNamespace(rs.Namespace) {
			if owner.Selects(d.Spec.Selector, rs.Labels) {
				c.queue.Add(reconcile.KeyOf(d))
			}
		}
	}
}

// podChanged wakes a Deployment with the strategy Recreate when a pod of it has ended: that is what it waits for.
func (c *Controller) podChanged(old, now *corev1.Pod) {
	if old == nil || (now != nil && old.Status.Phase == now.Status.Phase) {
		return
	}
	ref := metav1.GetControllerOfNoCopy(old)
	if ref == nil || ref.Kind != "ReplicaSet" {
		return
	}
	rs, ok := c.sets.Get(old.Namespace, ref.Name)
	if !ok {
		return
	}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil && ref.Kind == kind.Kind {
		if d, ok := c.deployments.Get(rs.Namespace, ref.Name); ok && d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
			c.queue.Add(reconcile.KeyOf(d))
		}
	}
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	d, ok := c.deployments.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("selector of Deployment %s: %w", key, err))
	}
	if selector.Empty() {
		return reconcile.Result{}, c.refuse(ctx, d)
	}
	if late, err := c.late(ctx, d); late || err != nil {
		return reconcile.Result{RequeueAfter: lateAgain}, err
	}
	sets, err := c.claim(ctx, d, selector)
	if err != nil {
		return reconcile.Result{}, err
	}
	p, err := makePlan(facts{
		deployment: d, sets: sets, now: time.Now(),
		oldPods: oldPodsRunning(func(rs *appsv1.ReplicaSet) []*corev1.Pod { return c.pods.OwnedBy(rs.UID) }, sets),
	})
	if err != nil {
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("roll out Deployment %s: %w", key, err))
	}
	if err := c.apply(ctx, d, p); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: p.again}, nil
}

// lateAgain is how long a Deployment waits for the news of our own writes before it looks again.
const lateAgain = 10 * time.Second

// late reports whether the cache does not show yet what this process has done for the Deployment: the sizes in it are then not those that
// the next step has to reckon with.
func (c *Controller) late(ctx context.Context, d *appsv1.Deployment) (bool, error) {
	return c.writes.late(d.UID, c.sets.OwnedBy(d.UID), func(name string) (bool, error) {
		rs, err := client.ReplicaSets.Get(ctx, c.env.API, d.Namespace, name)
		if control.Gone(err) != nil {
			return false, fmt.Errorf("look for ReplicaSet %s/%s, which was to be made: %w", d.Namespace, name, err)
		}
		return err == nil && owner.ControllerUID(rs) == d.UID, nil // another's has the name, and the next one will differ
	})
}

// refuse says that the selector selects everything, and does nothing else.
func (c *Controller) refuse(ctx context.Context, d *appsv1.Deployment) error {
	c.env.Events.Event(d, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
	if d.Status.ObservedGeneration >= d.Generation {
		return nil
	}
	out := *d
	out.Status.ObservedGeneration = d.Generation
	_, err := client.Deployments.Update(ctx, c.env.API, &out, "status")
	return err
}

func (c *Controller) claim(ctx context.Context, d *appsv1.Deployment, selector labels.Selector) ([]*appsv1.ReplicaSet, error) {
	return owner.Claim(ctx, owner.Claimer{
		Owner: d, Ref: *metav1.NewControllerRef(d, kind),
		Fresh: func(ctx context.Context) (metav1.Object, error) {
			return client.Deployments.Get(ctx, c.env.API, d.Namespace, d.Name)
		},
		Patch: func(ctx context.Context, name string, patch []byte) error {
			_, err := client.ReplicaSets.Patch(ctx, c.env.API, d.Namespace, name, types.StrategicMergePatchType, patch)
			return err
		},
	}, selector, append(c.sets.OwnedBy(d.UID), c.sets.Orphans(d.Namespace)...))
}

// apply carries a plan out: what shrinks, the new ReplicaSet, what grows, the removals, the status. In this order the
// limits hold wherever it stops. The first refusal ends it; the status of a failed creation is still written.
func (c *Controller) apply(ctx context.Context, d *appsv1.Deployment, p plan) error {
	shrinking := slices.IndexFunc(p.changes, func(ch change) bool { return ch.growth() > 0 })
	if shrinking < 0 {
		shrinking = len(p.changes)
	}
	if err := c.change(ctx, d, p.changes[:shrinking]); err != nil {
		return err
	}
	if p.create != nil {
		waiting, err := c.create(ctx, d, p.create)
		if err != nil || waiting {
			return err
		}
	}
	if err := c.change(ctx, d, p.changes[shrinking:]); err != nil {
		return err
	}
	for _, rs := range p.remove {
		err := client.ReplicaSets.Delete(ctx, c.env.API, rs.Namespace, rs.Name, metav1.DeleteOptions{
			PropagationPolicy: new(metav1.DeletePropagationBackground),
			Preconditions:     &metav1.Preconditions{UID: &rs.UID, ResourceVersion: &rs.ResourceVersion},
		})
		if control.Gone(err) != nil {
			return fmt.Errorf("delete ReplicaSet %s/%s beyond the history limit: %w", rs.Namespace, rs.Name, err)
		}
	}
	return c.report(ctx, d, p)
}

// create makes the ReplicaSet. When its name is taken by our own, the cache is merely behind and the news will come
// (waiting); when it is taken by something else, the collision is counted in the status, which makes another name.
func (c *Controller) create(ctx context.Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet) (waiting bool, err error) {
	c.writes.creating(d.UID, rs.Name)
	made, err := client.ReplicaSets.Create(ctx, c.env.API, rs)
	switch {
	case err == nil:
		c.writes.sets.Note(made)
		c.log.Info("created replica set", zap.String("namespace", rs.Namespace), zap.String("name", rs.Name), zap.Int32("replicas", replicas(rs)))
		if replicas(rs) > 0 {
			c.env.Events.Event(d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", rs.Name, replicas(rs))
		}
		return false, nil
	case apierrors.IsAlreadyExists(err):
		return true, c.collide(ctx, d, rs.Name)
	case control.Ending(err):
		return true, nil
	}
	message := fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, err)
	c.env.Events.Event(d, corev1.EventTypeWarning, reasonCreateError, "%s", message)
	if hasDeadline(d) {
		out := *d
		out.Status = *d.Status.DeepCopy()
		setCondition(&out.Status, appsv1.DeploymentCondition{
			Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: reasonCreateError, Message: message,
		}, time.Now())
		if !equality.Semantic.DeepEqual(out.Status, d.Status) {
			if _, err := client.Deployments.Update(ctx, c.env.API, &out, "status"); err != nil {
				c.log.Debug("could not report a failed creation", zap.String("namespace", d.Namespace), zap.String("name", d.Name), zap.Error(err))
			}
		}
	}
	return false, fmt.Errorf("create ReplicaSet %s/%s: %w", rs.Namespace, rs.Name, err)
}

// collide finds out who has the name that we wanted.
func (c *Controller) collide(ctx context.Context, d *appsv1.Deployment, name string) error {
	have, err := client.ReplicaSets.Get(ctx, c.env.API, d.Namespace, name)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("read ReplicaSet %s/%s, which was there a moment ago: %w", d.Namespace, name, err)
	}
	if err != nil {
		return fmt.Errorf("read ReplicaSet %s/%s: %w", d.Namespace, name, err)
	}
	if owner.ControllerUID(have) == d.UID && sameTemplate(&have.Spec.Template, &d.Spec.Template) {
		return nil
	}
	out := *d
	out.Status = *d.Status.DeepCopy()
	count := int32(1)
	if d.Status.CollisionCount != nil {
		count = *d.Status.CollisionCount + 1
	}
	out.Status.CollisionCount = &count
	if _, err := client.Deployments.Update(ctx, c.env.API, &out, "status"); err != nil {
		return fmt.Errorf("count the collision of Deployment %s/%s with ReplicaSet %s: %w", d.Namespace, d.Name, name, err)
	}
	c.log.Info("name of new replica set is taken, making another",
		zap.String("namespace", d.Namespace), zap.String("name", name), zap.Int32("collisions", count))
	return nil
}

// change writes ReplicaSets and tells what was scaled.
func (c *Controller) change(ctx context.Context, d *appsv1.Deployment, changes []change) error {
	for _, ch := range changes {
		if err := c.changeOne(ctx, d, ch); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) changeOne(ctx context.Context, d *appsv1.Deployment, ch change) error {
	now, err := client.ReplicaSets.Update(ctx, c.env.API, ch.to)
	if err != nil && !control.Refused(err) { // it may have been written
		if now, err := client.ReplicaSets.Get(ctx, c.env.API, ch.to.Namespace, ch.to.Name); err == nil {
			c.writes.sets.Note(now)
		}
	}
	if err != nil {
		return fmt.Errorf("update ReplicaSet %s/%s: %w", ch.to.Namespace, ch.to.Name, err)
	}
	c.writes.sets.Note(now)
	before, after := replicas(ch.from), replicas(ch.to)
	if before == after {
		return nil
	}
	direction := "up"
	if after < before {
		direction = "down"
	}
	c.log.Info("scaled replica set", zap.String("namespace", ch.to.Namespace), zap.String("name", ch.to.Name),
		zap.Int32("from", before), zap.Int32("to", after))
	c.env.Events.Event(d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, ch.to.Name, before, after)
	return nil
}

// report writes status and revision if they changed. The revision goes with the status; a server that keeps annotations
// out of status updates gets it as a patch.
func (c *Controller) report(ctx context.Context, d *appsv1.Deployment, p plan) error {
	revised := p.revision != "" && d.Annotations[RevisionAnnotation] != p.revision
	if !revised && equality.Semantic.DeepEqual(d.Status, p.status) {
		return nil
	}
	out := d.DeepCopy()
	out.Status = p.status
	if revised {
		metav1.SetMetaDataAnnotation(&out.ObjectMeta, RevisionAnnotation, p.revision)
	}
	written, err := client.Deployments.Update(ctx, c.env.API, out, "status")
	if err != nil {
		return control.Gone(fmt.Errorf("write status of Deployment %s/%s: %w", d.Namespace, d.Name, err))
	}
	if !revised || written.Annotations[RevisionAnnotation] == p.revision {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{RevisionAnnotation: p.revision}}})
	if err != nil {
		return fmt.Errorf("encode revision of Deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	if _, err := client.Deployments.Patch(ctx, c.env.API, d.Namespace, d.Name, types.MergePatchType, patch); control.Gone(err) != nil {
		return fmt.Errorf("write revision of Deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	return nil
}
