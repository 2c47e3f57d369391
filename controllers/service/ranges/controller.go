// Package ranges says of each ServiceCIDR whether Services get addresses from it, and keeps one that is deleted until no Service has
// an address of it that is in no other range.
//
// Reads ServiceCIDRs and IPAddresses; writes the finalizer and the condition Ready of ServiceCIDRs. That no address is left must be
// said by the API server, not by a cache.
package ranges

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller looks after all ranges.
type Controller struct {
	env    control.Env
	ranges *client.Informer[networkingv1.ServiceCIDR]
	taken  *client.Informer[networkingv1.IPAddress]
	queue  *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{
		env: env, ranges: client.ServiceCIDRs.Informer(env.Informers, client.Options{}), taken: client.IPAddresses.Informer(env.Informers, client.Options{}),
	}
	c.queue = env.Queue("servicecidrs", 1, c.reconcile)
	c.ranges.OnChange(func(_, now *networkingv1.ServiceCIDR) {
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
		c.lookAtDeleted() // another range may take over the addresses of one that is to go
	})
	c.taken.OnChange(func(_, now *networkingv1.IPAddress) {
		if now == nil {
			c.lookAtDeleted()
		}
	})
	return c, nil
}

func (c *Controller) lookAtDeleted() {
	for r := range c.ranges.All() {
		if r.DeletionTimestamp != nil {
			c.queue.Add(reconcile.KeyOf(r))
		}
	}
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.ranges.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	one, ok := c.ranges.Get("", key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	f := facts{one: one, now: time.Now()}
	for r := range c.ranges.All() {
		if r.Name != one.Name {
			f.others = append(f.others, r)
		}
	}
	if one.DeletionTimestamp != nil {
		list, err := client.IPAddresses.List(ctx, c.env.API, "", metav1.ListOptions{})
		if err != nil {
			return reconcile.Result{}, fmt.Errorf("look for addresses of ServiceCIDR %s: %w", key.Name, err)
		}
		for i := range list.Items {
			if a, err := netip.ParseAddr(list.Items[i].Name); err == nil {
				f.taken = append(f.taken, a)
			}
		}
	}
	p := makePlan(f)
	return reconcile.Result{RequeueAfter: p.again}, c.apply(ctx, one, p)
}

// apply protects a range before anybody hears that it is ready; on its way out it says so before it goes.
func (c *Controller) apply(ctx context.Context, one *networkingv1.ServiceCIDR, p plan) (err error) {
	if !slices.Equal(one.Finalizers, p.finalizers) && one.DeletionTimestamp == nil {
		if one, err = c.finalize(ctx, one, p.finalizers); err != nil {
			return err
		}
	}
	has := meta.FindStatusCondition(one.Status.Conditions, networkingv1.ServiceCIDRConditionReady)
	if has == nil || has.Status != p.ready.Status || p.ready.Status == metav1.ConditionFalse && has.Message != p.ready.Message {
		name := one.Name
		one = one.DeepCopy()
		p.ready.Type, p.ready.ObservedGeneration = networkingv1.ServiceCIDRConditionReady, one.Generation
		meta.SetStatusCondition(&one.Status.Conditions, p.ready)
		if one, err = client.ServiceCIDRs.Update(ctx, c.env.API, one, "status"); err != nil {
			return control.Gone(fmt.Errorf("write status of ServiceCIDR %s: %w", name, err))
		}
	}
	if !slices.Equal(one.Finalizers, p.finalizers) {
		_, err = c.finalize(ctx, one, p.finalizers)
	}
	return control.Gone(err)
}

func (c *Controller) finalize(ctx context.Context, one *networkingv1.ServiceCIDR, finalizers []string) (*networkingv1.ServiceCIDR, error) {
	out := one.DeepCopy()
	out.Finalizers = finalizers
	out, err := client.ServiceCIDRs.Update(ctx, c.env.API, out)
	if err != nil {
		return nil, fmt.Errorf("change finalizers of ServiceCIDR %s: %w", one.Name, err)
	}
	return out, nil
}
