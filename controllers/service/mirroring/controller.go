// Package mirroring copies Endpoints that somebody writes by hand for a Service without a selector into EndpointSlices,
// which is all that proxies read.
//
// Reads Endpoints, Services and EndpointSlices; writes the EndpointSlices with the label
// endpointslice.kubernetes.io/managed-by=endpointslicemirroring-controller.k8s.io. Endpoints with the label
// endpointslice.kubernetes.io/skip-mirror=true are left alone.
package mirroring

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"hardway/controllers/control"
	"hardway/controllers/ledger"
	"hardway/controllers/service/slices"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller mirrors Endpoints.
type Controller struct {
	env       control.Env
	endpoints *client.Informer[corev1.Endpoints]
	services  *client.Informer[corev1.Service]
	slices    control.Slices
	writer    slices.Writer
	queue     *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{
		env: env, endpoints: env.Endpoints(), services: env.Services(), slices: env.Slices(), writer: slices.Writer{API: env.API, Book: ledger.New()},
	}
	c.queue = env.Queue("endpoint_slice_mirroring", env.Config.WorkersFor("mirroring-concurrent-service-endpoint-syncs"), c.reconcile)
	c.endpoints.OnChange(func(old, now *corev1.Endpoints) {
		if now == nil {
			c.writer.Book.Forget(old.UID)
			now = old
		}
		c.queue.Add(reconcile.KeyOf(now))
	})
	c.services.OnChange(func(old, now *corev1.Service) {
		if old == nil || now == nil || (len(old.Spec.Selector) == 0) != (len(now.Spec.Selector) == 0) {
			if now == nil {
				now = old
			}
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	c.slices.OnChange(func(old, now *discoveryv1.EndpointSlice) {
		for _, s := range []*discoveryv1.EndpointSlice{old, now} {
			if s != nil && s.Labels[discoveryv1.LabelManagedBy] == ManagedBy {
				c.queue.Add(reconcile.Key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]})
			}
		}
	})
	return c, nil
}

// Run mirrors until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.writer.Book.Clear()
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.endpoints.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	existing := c.slices.Of(key, ManagedBy)
	ep, _ := c.endpoints.Get(key.Namespace, key.Name)
	svc, _ := c.services.Get(key.Namespace, key.Name)
	if !mirrored(ep, svc) {
		// The slices' owner is the Endpoints, so the garbage collector removes them with it; here they go because they
		// must not be mirrored any more.
		return reconcile.Result{}, c.writer.Apply(ctx, "", slices.Diff{Delete: existing})
	}
	waiting, err := c.writer.Waiting(ctx, ep.UID, ep.Namespace, func(name string) bool { _, ok := c.slices.Get(ep.Namespace, name); return ok })
	if err != nil || waiting {
		return reconcile.Result{RequeueAfter: ledger.Doubt}, err
	}
	p := makePlan(ep, existing)
	if p.Empty() {
		return reconcile.Result{}, nil
	}
	if p.invalid > 0 {
		c.env.Events.Event(ep, corev1.EventTypeWarning, "InvalidIPAddress", "Skipped %d invalid IP addresses when mirroring to EndpointSlices", p.invalid)
	}
	if p.skipped > 0 {
		c.env.Events.Event(ep, corev1.EventTypeWarning, "TooManyAddressesToMirror",
			"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", perSubset, p.skipped)
	}
	if err := c.writer.Apply(ctx, ep.UID, p.Diff); err != nil {
		return reconcile.Result{}, fmt.Errorf("mirror Endpoints %s: %w", key, err)
	}
	return reconcile.Result{}, nil
}
