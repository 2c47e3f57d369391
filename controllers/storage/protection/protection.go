// Package protection keeps claims that are deleted until no pod uses them, and volumes until no claim has them: it gives
// them the finalizers kubernetes.io/pvc-protection and kubernetes.io/pv-protection and takes these away again.
//
// Reads claims, volumes and pods; writes finalizers. That no pod uses a claim is asked of the API server, not of a cache.
package protection

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

const (
	claimFinalizer  = "kubernetes.io/pvc-protection"
	volumeFinalizer = "kubernetes.io/pv-protection"
)

// change returns the finalizers that an object should have, and whether they differ from those it has.
func change(obj metav1.Object, finalizer string, used bool) ([]string, bool) {
	has := slices.Contains(obj.GetFinalizers(), finalizer)
	switch wanted := obj.GetDeletionTimestamp() == nil || used; {
	case wanted && !has && obj.GetDeletionTimestamp() == nil:
		return append(slices.Clone(obj.GetFinalizers()), finalizer), true
	case !wanted && has:
		return slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool { return f == finalizer }), true
	}
	return nil, false
}

// uses says whether a pod holds the claim: it has got a node, and was not declared gone from it.
func uses(pod *corev1.Pod, claim string) bool {
	if pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0 {
		return false
	}
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim || v.Ephemeral != nil && pod.Name+"-"+v.Name == claim
	})
}

// Claims protects claims.
type Claims struct {
	env    control.Env
	claims control.Claims
	pods   control.Pods
	queue  *control.Queue
}

// NewClaims makes the controller and has its caches filled.
func NewClaims(env control.Env) (control.Runner, error) {
	c := &Claims{env: env, claims: env.Claims(), pods: env.Pods()}
	c.queue = env.Queue("pvcprotection", 4, c.reconcile)
	c.claims.OnChange(func(_, now *corev1.PersistentVolumeClaim) {
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	c.pods.OnChange(func(old, now *corev1.Pod) {
		if now == nil || now.DeletionTimestamp != nil {
			if now == nil {
				now = old
			}
			for _, v := range now.Spec.Volumes {
				switch {
				case v.PersistentVolumeClaim != nil:
					c.queue.Add(reconcile.Key{Namespace: now.Namespace, Name: v.PersistentVolumeClaim.ClaimName})
				case v.Ephemeral != nil:
					c.queue.Add(reconcile.Key{Namespace: now.Namespace, Name: now.Name + "-" + v.Name})
				}
			}
		}
	})
	return c, nil
}

// Run protects until ctx ends.
func (c *Claims) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.claims.All()) })
}

func (c *Claims) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	claim, ok := c.claims.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	used := slices.ContainsFunc(c.pods.Using(key), func(p *corev1.Pod) bool { return uses(p, key.Name) })
	finalizers, differ := change(claim, claimFinalizer, used)
	if !differ {
		return reconcile.Result{}, nil
	}
	if claim.DeletionTimestamp != nil { // the cache may not know a pod yet
		list, err := client.Pods.List(ctx, c.env.API, key.Namespace, metav1.ListOptions{})
		if err != nil {
			return reconcile.Result{}, fmt.Errorf("look for pods that use claim %s: %w", key, err)
		}
		if slices.ContainsFunc(list.Items, func(p corev1.Pod) bool { return uses(&p, key.Name) }) {
			return reconcile.Result{}, nil // its end brings the claim back
		}
	}
	claim = claim.DeepCopy()
	claim.Finalizers = finalizers
	if _, err := client.PersistentVolumeClaims.Update(ctx, c.env.API, claim); control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("change finalizers of claim %s: %w", key, err)
	}
	return reconcile.Result{}, nil
}

// Volumes protects volumes.
type Volumes struct {
	env     control.Env
	volumes control.Volumes
	queue   *control.Queue
}

// NewVolumes makes the controller and has its caches filled.
func NewVolumes(env control.Env) (control.Runner, error) {
	c := &Volumes{env: env, volumes: env.Volumes()}
	c.queue = env.Queue("pvprotection", 4, c.reconcile)
	c.volumes.OnChange(func(_, now *corev1.PersistentVolume) {
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	return c, nil
}

// Run protects until ctx ends.
func (c *Volumes) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.volumes.All()) })
}

func (c *Volumes) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	v, ok := c.volumes.Get("", key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	finalizers, differ := change(v, volumeFinalizer, v.Status.Phase == corev1.VolumeBound)
	if !differ {
		return reconcile.Result{}, nil
	}
	v = v.DeepCopy()
	v.Finalizers = finalizers
	if _, err := client.PersistentVolumes.Update(ctx, c.env.API, v); control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("change finalizers of volume %s: %w", key, err)
	}
	return reconcile.Result{}, nil
}
