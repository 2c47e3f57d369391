package binder

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// scrubAgain is the pause before a volume that could not be emptied is tried again.
const scrubAgain = time.Minute

func (c *Controller) reconcileVolume(ctx context.Context, v *corev1.PersistentVolume) (reconcile.Result, error) {
	claim, err := c.claimOf(ctx, v)
	if err != nil {
		return reconcile.Result{}, err
	}
	switch planVolume(v, claim) {
	case leave:
		c.queue.Add(reconcile.KeyOf(claim))
	case free:
		_, err = c.setPhase(ctx, v, corev1.VolumeAvailable, "")
	case bound:
		_, err = c.setPhase(ctx, v, corev1.VolumeBound, "")
	case unbind:
		err = c.unbind(ctx, v)
	case release:
		return c.release(ctx, v)
	}
	return reconcile.Result{}, err
}

// claimOf is the claim that a volume names. That it is gone must be said by the server: data may hang on it.
func (c *Controller) claimOf(ctx context.Context, v *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	ref := v.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		return nil, nil
	}
	if claim, ok := c.claims.Get(ref.Namespace, ref.Name); ok && claim.UID == ref.UID {
		return claim, nil
	}
	claim, err := client.PersistentVolumeClaims.Get(ctx, c.env.API, ref.Namespace, ref.Name)
	if control.Gone(err) != nil {
		return nil, fmt.Errorf("look for claim %s/%s of volume %s: %w", ref.Namespace, ref.Name, v.Name, err)
	}
	if err != nil || claim.UID != ref.UID {
		return nil, nil
	}
	return claim, nil
}

// unbind frees a volume: one that we bound names nobody again, one that a person reserved stays reserved.
func (c *Controller) unbind(ctx context.Context, v *corev1.PersistentVolume) error {
	v = v.DeepCopy()
	if _, ours := v.Annotations[boundByController]; ours {
		delete(v.Annotations, boundByController)
		v.Spec.ClaimRef = nil
	} else {
		v.Spec.ClaimRef.UID, v.Spec.ClaimRef.ResourceVersion = "", ""
	}
	v, err := client.PersistentVolumes.Update(ctx, c.env.API, v)
	if err != nil {
		return fmt.Errorf("free volume: %w", err)
	}
	_, err = c.setPhase(ctx, v, corev1.VolumeAvailable, "")
	return err
}

// release is for volumes whose claim is gone.
func (c *Controller) release(ctx context.Context, v *corev1.PersistentVolume) (reconcile.Result, error) {
	if v.Status.Phase != corev1.VolumeReleased && v.Status.Phase != corev1.VolumeFailed {
		var err error
		if v, err = c.setPhase(ctx, v, corev1.VolumeReleased, ""); err != nil {
			return reconcile.Result{}, err
		}
	}
	if v.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	switch planReclaim(v) {
	case refuse:
		return reconcile.Result{}, c.fail(ctx, v, "nobody here can reclaim a volume of this type")
	case scrub:
		return c.scrub(ctx, v)
	}
	return reconcile.Result{}, nil
}

func (c *Controller) fail(ctx context.Context, v *corev1.PersistentVolume, why string) error {
	if v.Status.Phase == corev1.VolumeFailed && v.Status.Message == why {
		return nil
	}
	reason := "VolumeFailedDelete"
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		reason = "VolumeFailedRecycle"
	}
	c.env.Events.Event(v, corev1.EventTypeWarning, reason, "%s", why)
	_, err := c.setPhase(ctx, v, corev1.VolumeFailed, why)
	return err
}

// scrub has a pod empty the volume, then frees or deletes it. A volume whose node is gone has no data.
func (c *Controller) scrub(ctx context.Context, v *corev1.PersistentVolume) (reconcile.Result, error) {
	pod, ok := c.pods.Get(scrubNamespace, scrubName(v))
	switch {
	case !ok && !c.reachable(v):
		return reconcile.Result{}, c.scrubbed(ctx, v)
	case !ok:
		return reconcile.Result{}, c.makeScrub(ctx, v)
	case pod.DeletionTimestamp != nil:
		return reconcile.Result{}, nil
	case pod.Status.Phase == corev1.PodSucceeded:
		if err := c.scrubbed(ctx, v); err != nil {
			return reconcile.Result{}, err
		}
		return reconcile.Result{}, c.removePod(ctx, pod)
	case pod.Status.Phase == corev1.PodFailed:
		if v.Status.Phase != corev1.VolumeFailed {
			return reconcile.Result{RequeueAfter: scrubAgain}, c.fail(ctx, v, "the pod "+pod.Namespace+"/"+pod.Name+" that empties the volume failed: "+pod.Status.Message)
		}
		if rest := scrubAgain - time.Since(failedAt(v)); rest > 0 {
			return reconcile.Result{RequeueAfter: rest}, nil
		}
		return reconcile.Result{}, c.removePod(ctx, pod)
	}
	if why := stuck(pod); why != "" {
		c.env.Events.Event(v, corev1.EventTypeWarning, "VolumeNotEmptied", "the pod %s/%s that empties the volume does not start: %s; --volume-scrub-image is %s",
			pod.Namespace, pod.Name, why, c.env.Config.ScrubImage)
	}
	return reconcile.Result{}, nil
}

// makeScrub makes the pod that empties a volume, and its namespace where that is missing.
func (c *Controller) makeScrub(ctx context.Context, v *corev1.PersistentVolume) error {
	_, err := client.Pods.Create(ctx, c.env.API, scrubPod(v, c.env.Config.ScrubImage))
	if apierrors.IsNotFound(err) {
		if _, err := client.Namespaces.Create(ctx, c.env.API, scrubSpace()); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make namespace %s: %w", scrubNamespace, err)
		}
	}
	if err != nil && !apierrors.IsAlreadyExists(err) { // in a new namespace it is tried again, until it has its account
		return fmt.Errorf("make a pod that empties volume %s: %w", v.Name, err)
	}
	return nil
}

func failedAt(v *corev1.PersistentVolume) time.Time {
	if v.Status.LastPhaseTransitionTime == nil {
		return time.Time{}
	}
	return v.Status.LastPhaseTransitionTime.Time
}

// reachable says whether there is a node from where the volume can be used.
func (c *Controller) reachable(v *corev1.PersistentVolume) bool {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return true
	}
	wanted, err := nodeaffinity.NewNodeSelector(v.Spec.NodeAffinity.Required)
	if err != nil {
		return true
	}
	for node := range c.nodes.All() {
		if wanted.Match(node) {
			return true
		}
	}
	return false
}

// scrubbed ends what Recycle or Delete began.
func (c *Controller) scrubbed(ctx context.Context, v *corev1.PersistentVolume) error {
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		c.env.Events.Event(v, corev1.EventTypeNormal, "VolumeRecycled", "Volume recycled")
		return c.unbind(ctx, v)
	}
	err := client.PersistentVolumes.Delete(ctx, c.env.API, "", v.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &v.UID}})
	if control.Gone(err) != nil {
		return fmt.Errorf("delete volume %s: %w", v.Name, err)
	}
	c.log.Info("deleted volume with its data", zap.String("name", v.Name))
	return nil
}

func (c *Controller) removePod(ctx context.Context, pod *corev1.Pod) error {
	err := client.Pods.Delete(ctx, c.env.API, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if control.Gone(err) != nil {
		return fmt.Errorf("delete pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}
