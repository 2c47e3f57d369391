// Package resourceclaim makes the resource claims of pods that name a template, and takes devices back when nobody uses a claim
// any more.
//
// Reads pods, claims and templates; writes claims with their status, and the names of the claims into the status of pods. A
// pod that is there by the cache's word uses its claims; that it is gone must be said by the server. A claim that was made for a
// pod goes when the pod ends; one that is gone with its pod is the garbage collector's.
package resourceclaim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/daemon"
	"hardway/shared/reconcile"
)

// Controller has a queue of pods and one of claims.
type Controller struct {
	env       control.Env
	log       *zap.Logger
	pods      control.Pods
	claims    *client.Informer[resourcev1.ResourceClaim]
	templates *client.Informer[resourcev1.ResourceClaimTemplate]
	byPod     *control.Queue
	byClaim   *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{
		env: env, log: env.Log.Named("resourceclaim"), pods: env.Pods(), claims: client.ResourceClaims.Informer(env.Informers, client.Options{}),
		templates: client.ResourceClaimTemplates.Informer(env.Informers, client.Options{}),
	}
	workers := env.Config.WorkersFor("concurrent-resource-claim-syncs")
	c.byPod = env.Queue("resource_claim", workers, c.reconcilePod)
	c.byClaim = env.Queue("resource_claim_use", workers, c.reconcileClaim)
	c.pods.OnChange(func(old, now *corev1.Pod) {
		if now == nil {
			now = old
		} else {
			c.look(now)
		}
		for _, name := range claimsOf(now) {
			c.byClaim.Add(reconcile.Key{Namespace: now.Namespace, Name: name})
		}
	})
	c.claims.OnChange(func(old, now *resourcev1.ResourceClaim) {
		if now != nil {
			c.byClaim.Add(reconcile.KeyOf(now))
			old = now
		}
		if ref := metav1.GetControllerOfNoCopy(old); ref != nil && ref.Kind == "Pod" {
			c.byPod.Add(reconcile.Key{Namespace: old.Namespace, Name: ref.Name})
		}
	})
	c.templates.OnChange(func(old, now *resourcev1.ResourceClaimTemplate) {
		if old != nil || now == nil {
			return
		}
		for pod := range c.pods.InNamespace(now.Namespace) {
			c.look(pod)
		}
	})
	return c, nil
}

func (c *Controller) look(pod *corev1.Pod) {
	if len(pod.Spec.ResourceClaims) > 0 && pod.DeletionTimestamp == nil && !over(pod) {
		c.byPod.Add(reconcile.KeyOf(pod))
	}
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	var both daemon.Group
	both.Add("pods", func(ctx context.Context) error {
		return c.byPod.Run(ctx, func() {
			for pod := range c.pods.All() {
				c.look(pod)
			}
		})
	})
	both.Add("claims", func(ctx context.Context) error {
		return c.byClaim.Run(ctx, func() { control.Keys(c.byClaim, c.claims.All()) })
	})
	return both.Run(ctx)
}

// reconcilePod makes the claims that a pod lacks and writes their names into its status.
func (c *Controller) reconcilePod(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	pod, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || pod.DeletionTimestamp != nil || over(pod) {
		return reconcile.Result{}, nil
	}
	var names []corev1.PodResourceClaimStatus
	var errs []error
	wanted := entries(pod)
	for _, entry := range slices.Sorted(maps.Keys(wanted)) {
		if name, known := recorded(pod, entry); known && (name == "" || c.has(pod.Namespace, name)) {
			continue
		}
		name, err := c.ensure(ctx, pod, entry, wanted[entry])
		if name != "" {
			names = append(names, corev1.PodResourceClaimStatus{Name: entry, ResourceClaimName: &name})
		}
		errs = append(errs, err)
	}
	if len(names) > 0 {
		errs = append(errs, c.record(ctx, pod, names))
	}
	if pod.Spec.NodeName != "" {
		errs = append(errs, c.reserve(ctx, pod))
	}
	return reconcile.Result{}, errors.Join(errs...)
}

func (c *Controller) has(namespace, name string) bool {
	_, ok := c.claims.Get(namespace, name)
	return ok
}

// ensure makes the claim of an entry, unless it is there. A name of "" means that it has to wait.
func (c *Controller) ensure(ctx context.Context, pod *corev1.Pod, entry, from string) (string, error) {
	refuse := func(err error) (string, error) {
		c.env.Events.Event(pod, corev1.EventTypeWarning, "FailedResourceClaimCreation", "PodResourceClaim %s: %v", entry, err)
		return "", err
	}
	name := nameFor(pod, entry)
	have, ok := c.claims.Get(pod.Namespace, name)
	if !ok {
		template, ok := c.templates.Get(pod.Namespace, from)
		if !ok {
			// It comes back when there is a template of that name.
			_, _ = refuse(fmt.Errorf("resource claim template %q not found", from)) //nolint:errcheck // only for the Event
			return "", nil
		}
		made, err := client.ResourceClaims.Create(ctx, c.env.API, claimFor(pod, entry, template))
		switch {
		case control.Ending(err):
			return "", nil
		case err == nil:
			c.log.Info("made claim", zap.String("namespace", made.Namespace), zap.String("name", made.Name), zap.String("pod", pod.Name))
			return made.Name, nil
		case !apierrors.IsAlreadyExists(err):
			return refuse(fmt.Errorf("create claim %s: %w", name, err))
		}
		if have, err = client.ResourceClaims.Get(ctx, c.env.API, pod.Namespace, name); err != nil {
			return "", control.Gone(err)
		}
	}
	if !metav1.IsControlledBy(have, pod) {
		return refuse(reconcile.Terminal(fmt.Errorf("resource claim %s is not this pod's", name)))
	}
	return name, nil
}

// record writes names of claims into the pod's status, beside those that are there.
func (c *Controller) record(ctx context.Context, pod *corev1.Pod, names []corev1.PodResourceClaimStatus) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": map[string]any{"resourceClaimStatuses": names}})
	if err != nil {
		return fmt.Errorf("encode claims of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	_, err = client.Pods.Patch(ctx, c.env.API, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch, "status")
	if control.Gone(err) != nil {
		return fmt.Errorf("write claims of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// reserve has the allocated claims of a pod that nobody scheduled, but that has a node, name it as their user.
func (c *Controller) reserve(ctx context.Context, pod *corev1.Pod) error {
	for _, name := range claimsOf(pod) {
		claim, ok := c.claims.Get(pod.Namespace, name)
		if !ok || claim.Status.Allocation == nil || claim.DeletionTimestamp != nil || reservedFor(claim, pod) ||
			len(claim.Status.ReservedFor) >= resourcev1.ResourceClaimReservedForMaxSize {
			continue
		}
		claim = claim.DeepCopy()
		claim.Status.ReservedFor = append(claim.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
		if _, err := client.ResourceClaims.Update(ctx, c.env.API, claim, "status"); control.Gone(err) != nil {
			return fmt.Errorf("reserve claim %s/%s for pod %s: %w", pod.Namespace, name, pod.Name, err)
		}
	}
	return nil
}

// reconcileClaim takes users off a claim that do not use it any more, its devices when there are none, and the claim itself
// when its pod has ended.
func (c *Controller) reconcileClaim(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	claim, ok := c.claims.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	users, err := c.users(ctx, claim)
	if err != nil {
		return reconcile.Result{}, err
	}
	var made *corev1.Pod
	if ref := metav1.GetControllerOfNoCopy(claim); ref != nil && ref.Kind == "Pod" {
		if pod, ok := c.pods.Get(key.Namespace, ref.Name); ok && pod.UID == ref.UID {
			made = pod
		}
	}
	p := planClaim(claim, users, made)
	if p.status != nil {
		claim = claim.DeepCopy()
		claim.Status = *p.status
		if claim, err = client.ResourceClaims.Update(ctx, c.env.API, claim, "status"); err != nil {
			return reconcile.Result{}, ignoreGone("free", key, err)
		}
	}
	if p.free {
		claim = claim.DeepCopy()
		claim.Finalizers = slices.DeleteFunc(claim.Finalizers, func(f string) bool { return f == resourcev1.Finalizer })
		if claim, err = client.ResourceClaims.Update(ctx, c.env.API, claim); err != nil {
			return reconcile.Result{}, ignoreGone("take the finalizer off", key, err)
		}
	}
	if p.remove {
		err = client.ResourceClaims.Delete(ctx, c.env.API, key.Namespace, key.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &claim.UID}})
		return reconcile.Result{}, ignoreGone("delete", key, err)
	}
	return reconcile.Result{}, nil
}

func ignoreGone(what string, key reconcile.Key, err error) error {
	if control.Gone(err) == nil {
		return nil
	}
	return fmt.Errorf("%s claim %s: %w", what, key, err)
}

// users are those of a claim's reservedFor that still use it. What is no pod is somebody else's to take off.
func (c *Controller) users(ctx context.Context, claim *resourcev1.ResourceClaim) ([]resourcev1.ResourceClaimConsumerReference, error) {
	var out []resourcev1.ResourceClaimConsumerReference
	for _, ref := range claim.Status.ReservedFor {
		if ref.APIGroup != "" || ref.Resource != "pods" {
			out = append(out, ref)
			continue
		}
		pod, ok := c.pods.Get(claim.Namespace, ref.Name)
		if !ok || pod.UID != ref.UID {
			var err error
			if pod, err = client.Pods.Get(ctx, c.env.API, claim.Namespace, ref.Name); control.Gone(err) != nil {
				return nil, fmt.Errorf("look for pod %s/%s, which uses claim %s: %w", claim.Namespace, ref.Name, claim.Name, err)
			} else if err != nil {
				continue
			}
		}
		if pod.UID == ref.UID && !over(pod) {
			out = append(out, ref)
		}
	}
	return out, nil
}
