// Package ephemeral makes the claims of pods that bring a template of a volume along: one for each, named after pod and
// volume, owned by the pod and so gone with it.
//
// Reads pods and claims; writes claims. A claim of that name which is not the pod's is left alone; the pod gets an Event.
package ephemeral

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/control"
	"hardway/controllers/podstate"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller makes claims.
type Controller struct {
	env    control.Env
	pods   control.Pods
	claims control.Claims
	queue  *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, pods: env.Pods(), claims: env.Claims()}
	c.queue = env.Queue("ephemeral_volume", env.Config.WorkersFor("concurrent-ephemeralvolume-syncs"), c.reconcile)
	c.pods.OnChange(func(old, now *corev1.Pod) {
		if old == nil {
			c.look(now)
		}
	})
	c.claims.OnChange(func(old, now *corev1.PersistentVolumeClaim) {
		if now != nil {
			return
		}
		for _, pod := range c.pods.Using(reconcile.KeyOf(old)) {
			c.look(pod)
		}
	})
	return c, nil
}

func (c *Controller) look(pod *corev1.Pod) {
	for _, v := range pod.Spec.Volumes {
		if v.Ephemeral != nil && pod.DeletionTimestamp == nil && !podstate.Terminal(pod) {
			c.queue.Add(reconcile.KeyOf(pod))
			return
		}
	}
}

// Run makes claims until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() {
		for pod := range c.pods.All() {
			c.look(pod)
		}
	})
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	pod, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || pod.DeletionTimestamp != nil || podstate.Terminal(pod) {
		return reconcile.Result{}, nil
	}
	for _, v := range pod.Spec.Volumes {
		if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
			continue
		}
		if err := c.ensure(ctx, pod, claimFor(pod, v)); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, nil
}

// claimFor is the claim of one volume of a pod.
func claimFor(pod *corev1.Pod, v corev1.Volume) *corev1.PersistentVolumeClaim {
	template := v.Ephemeral.VolumeClaimTemplate
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name + "-" + v.Name, Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: template.Spec,
	}
}

func (c *Controller) ensure(ctx context.Context, pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) error {
	have, ok := c.claims.Get(claim.Namespace, claim.Name)
	if !ok {
		_, err := client.PersistentVolumeClaims.Create(ctx, c.env.API, claim)
		switch {
		case err == nil, control.Ending(err):
			return nil
		case !apierrors.IsAlreadyExists(err):
			c.env.Events.Event(pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume: %v", err)
			return fmt.Errorf("make claim %s/%s for pod %s: %w", claim.Namespace, claim.Name, pod.Name, err)
		}
		if have, err = client.PersistentVolumeClaims.Get(ctx, c.env.API, claim.Namespace, claim.Name); err != nil {
			return control.Gone(err)
		}
	}
	if !metav1.IsControlledBy(have, pod) {
		c.env.Events.Event(pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume: PVC %s/%s was not created for pod %s/%s (pod is not owner)",
			claim.Namespace, claim.Name, pod.Namespace, pod.Name)
	}
	return nil
}
