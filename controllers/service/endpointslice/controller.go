// Package endpointslice describes the pods behind each Service in EndpointSlices, which proxies and DNS read.
//
// Reads Services, pods, nodes (for zones) and EndpointSlices; writes the EndpointSlices of Services with a selector:
// those with the label endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io. Slices of other managers
// are never touched. A change of one pod costs one write of the slice that it is in.
package endpointslice

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"hardway/controllers/control"
	"hardway/controllers/ledger"
	"hardway/controllers/service/selecting"
	"hardway/controllers/service/slices"
	"hardway/controllers/service/trigger"
	"hardway/controllers/service/wake"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller keeps the slices of all Services with a selector.
type Controller struct {
	env      control.Env
	services *client.Informer[corev1.Service]
	pods     control.Pods
	nodes    *client.Informer[corev1.Node]
	slices   control.Slices
	times    *trigger.Times
	writer   slices.Writer
	queue    *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{
		env: env, services: env.Services(), pods: env.Pods(), nodes: env.Nodes(), slices: env.Slices(),
		times: trigger.New(), writer: slices.Writer{API: env.API, Book: ledger.New()},
	}
	c.queue = env.Queue("endpoint_slice", env.Config.WorkersFor("concurrent-service-endpoint-syncs"), c.reconcile)
	c.services.OnChange(func(old, now *corev1.Service) {
		if now == nil {
			c.times.Forget(old.Namespace, old.Name)
			c.writer.Book.Forget(old.UID)
			return // the garbage collector removes the slices
		}
		c.queue.Add(reconcile.KeyOf(now))
	})
	c.slices.OnChange(c.sliceChanged)
	wake.OnPods(c.pods, c.services, c.queue)
	wake.OnNodes(c.nodes, c.pods, c.services, c.queue)
	return c, nil
}

// Run keeps slices until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.writer.Book.Clear()
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.services.All()) })
}

// sliceChanged wakes the Service of a slice of ours: somebody may have written to it, or our own write has arrived.
func (c *Controller) sliceChanged(old, now *discoveryv1.EndpointSlice) {
	for _, s := range []*discoveryv1.EndpointSlice{old, now} {
		if s != nil && s.Labels[discoveryv1.LabelManagedBy] == ManagedBy && s.Labels[discoveryv1.LabelServiceName] != "" {
			c.queue.Add(reconcile.Key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]})
		}
	}
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	svc, ok := c.services.Get(key.Namespace, key.Name)
	if !ok || !selecting.HasSelector(svc) {
		return reconcile.Result{}, nil
	}
	waiting, err := c.writer.Waiting(ctx, svc.UID, svc.Namespace, func(name string) bool { _, ok := c.slices.Get(svc.Namespace, name); return ok })
	if err != nil || waiting {
		return reconcile.Result{RequeueAfter: ledger.Doubt}, err
	}
	pods := selecting.Pods(svc, c.pods.InNamespace(svc.Namespace))
	d := makePlan(facts{
		service: svc, pods: pods, existing: c.slices.Of(key, ManagedBy), trigger: c.times.Last(svc, pods),
		node: func(name string) *corev1.Node { n, _ := c.nodes.Get("", name); return n },
	})
	if d.Empty() {
		return reconcile.Result{}, nil
	}
	if err := c.writer.Apply(ctx, svc.UID, d); err != nil {
		c.times.Forget(svc.Namespace, svc.Name)
		c.env.Events.Event(svc, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
			"Error updating Endpoint Slices for Service %s/%s: %v", svc.Namespace, svc.Name, err)
		return reconcile.Result{}, fmt.Errorf("endpoint slices of Service %s: %w", key, err)
	}
	return reconcile.Result{}, nil
}
