// Package endpoints describes the pods behind each Service in the older Endpoints object, for clients that do not read
// EndpointSlices.
//
// Reads Services, pods and Endpoints; writes the Endpoints that have the name of a Service with a selector, and removes
// those that it made when the Service is gone. Endpoints hold one address family and at most 1000 addresses.
package endpoints

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/controllers/control"
	"hardway/controllers/service/selecting"
	"hardway/controllers/service/trigger"
	"hardway/controllers/service/wake"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller keeps the Endpoints of all Services with a selector.
type Controller struct {
	env       control.Env
	services  *client.Informer[corev1.Service]
	pods      control.Pods
	endpoints *client.Informer[corev1.Endpoints]
	times     *trigger.Times
	queue     *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, services: env.Services(), pods: env.Pods(), endpoints: env.Endpoints(), times: trigger.New()}
	c.queue = env.Queue("endpoint", env.Config.WorkersFor("concurrent-endpoint-syncs"), c.reconcile)
	c.services.OnChange(func(old, now *corev1.Service) {
		if now == nil {
			c.times.Forget(old.Namespace, old.Name)
			c.queue.Add(reconcile.KeyOf(old))
			return
		}
		c.queue.Add(reconcile.KeyOf(now))
	})
	c.endpoints.OnChange(func(old, now *corev1.Endpoints) {
		for _, ep := range []*corev1.Endpoints{old, now} {
			if ep != nil {
				c.queue.Add(reconcile.KeyOf(ep))
			}
		}
	})
	wake.OnPods(c.pods, c.services, c.queue)
	return c, nil
}

// Run keeps Endpoints until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() {
		control.Keys(c.queue, c.services.All())
		control.Keys(c.queue, c.endpoints.All()) // those whose Service went while nobody looked
	})
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	existing, _ := c.endpoints.Get(key.Namespace, key.Name)
	svc, ok := c.services.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, c.remove(ctx, existing)
	}
	if !selecting.HasSelector(svc) || svc.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	pods := selecting.Pods(svc, c.pods.InNamespace(svc.Namespace))
	want := makePlan(facts{service: svc, pods: pods, existing: existing, trigger: c.times.Last(svc, pods)})
	if want == nil {
		return reconcile.Result{}, nil
	}
	var err error
	if existing == nil {
		_, err = client.Endpoints.Create(ctx, c.env.API, want)
	} else {
		_, err = client.Endpoints.Update(ctx, c.env.API, want)
	}
	switch {
	case err == nil, control.Ending(err), apierrors.IsAlreadyExists(err): // it exists: the cache is behind, and the news brings us back
		return reconcile.Result{}, nil
	case apierrors.IsConflict(err):
		return reconcile.Result{}, err
	}
	c.times.Forget(svc.Namespace, svc.Name)
	c.env.Events.Event(want, corev1.EventTypeWarning, "FailedToUpdateEndpoint", "Failed to update endpoint %s: %v", key, err)
	return reconcile.Result{}, fmt.Errorf("write Endpoints %s: %w", key, err)
}

// remove deletes Endpoints whose Service is gone. Endpoints that are not ours (of old, or made by hand without a
// Service) stay: only the Service of the same name speaks for them.
func (c *Controller) remove(ctx context.Context, ep *corev1.Endpoints) error {
	if ep == nil || ep.Labels[managedByLabel] != managedBy {
		return nil
	}
	err := client.Endpoints.Delete(ctx, c.env.API, ep.Namespace, ep.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &ep.UID}})
	if control.Gone(err) != nil {
		return fmt.Errorf("delete Endpoints %s/%s of a Service that is gone: %w", ep.Namespace, ep.Name, err)
	}
	return nil
}
