// Package expand lets bound claims grow whose volumes are folders of a node: these have no size of their own, so growing
// is a matter of the objects alone. Volumes of CSI drivers are grown by the driver's resizer; the claim gets an Event.
//
// Reads claims and volumes; writes the capacity of volumes and of claims' status.
package expand

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"hardway/controllers/control"
	"hardway/controllers/storage/binder"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller grows volumes.
type Controller struct {
	env     control.Env
	claims  control.Claims
	volumes control.Volumes
	queue   *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, claims: env.Claims(), volumes: env.Volumes()}
	c.queue = env.Queue("volume_expand", 2, c.reconcile)
	c.claims.OnChange(func(_, now *corev1.PersistentVolumeClaim) {
		if now != nil && wants(now) {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	return c, nil
}

// wants says whether a claim asks for more than it has.
func wants(c *corev1.PersistentVolumeClaim) bool {
	size, has := c.Spec.Resources.Requests[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
	return c.Status.Phase == corev1.ClaimBound && c.DeletionTimestamp == nil && !has.IsZero() && size.Cmp(has) > 0
}

// Run grows until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() {
		for claim := range c.claims.All() {
			if wants(claim) {
				c.queue.Add(reconcile.KeyOf(claim))
			}
		}
	})
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	claim, ok := c.claims.Get(key.Namespace, key.Name)
	if !ok || !wants(claim) {
		return reconcile.Result{}, nil
	}
	v, ok := c.volumes.Get("", claim.Spec.VolumeName)
	if !ok || v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != claim.UID {
		return reconcile.Result{}, nil
	}
	if !binder.IsLocal(v) {
		c.env.Events.Event(claim, corev1.EventTypeNormal, "ExternalExpanding", "waiting for an external controller to expand this PVC")
		return reconcile.Result{}, nil
	}
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if has := v.Spec.Capacity[corev1.ResourceStorage]; has.Cmp(size) < 0 {
		v = v.DeepCopy()
		v.Spec.Capacity[corev1.ResourceStorage] = size
		if _, err := client.PersistentVolumes.Update(ctx, c.env.API, v); err != nil {
			return reconcile.Result{}, fmt.Errorf("grow volume %s: %w", claim.Spec.VolumeName, err)
		}
	}
	claim = claim.DeepCopy()
	claim.Status.Capacity[corev1.ResourceStorage] = size
	claim.Status.Conditions = nil
	if _, err := client.PersistentVolumeClaims.Update(ctx, c.env.API, claim, "status"); err != nil {
		return reconcile.Result{}, fmt.Errorf("grow claim %s: %w", key, err)
	}
	c.env.Events.Event(claim, corev1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded")
	return reconcile.Result{}, nil
}
