// Package loadbalancer gives Services of type LoadBalancer addresses of a pool, on machines where no cloud does. The
// proxies of the nodes answer for them (their --load-balancer-link).
//
// Reads Services; writes their status. A Service keeps its addresses as long as it wants them; one that asks for an
// address in loadBalancerIP gets that or none. Without a free address the Service waits, and an Event says so.
package loadbalancer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/config"
	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Needs says that there is no pool, or that a cloud's controller gives addresses.
func Needs(c config.Config) string {
	switch {
	case c.CloudProvider == "external":
		return "--cloud-provider=external: a cloud's controller gives addresses"
	case len(c.LoadBalancerPool) == 0:
		return "--load-balancer-pool is not set"
	}
	return ""
}

// Controller gives addresses. It has one worker, which alone uses given.
type Controller struct {
	env      control.Env
	log      *zap.Logger
	pool     Pool
	services *client.Informer[corev1.Service]
	queue    *control.Queue
	// given are addresses that the cache may not show yet.
	given map[types.UID][]netip.Addr
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	pool, err := ParsePool(env.Config.LoadBalancerPool)
	if err != nil {
		return nil, fmt.Errorf("--load-balancer-pool: %w", err)
	}
	c := &Controller{env: env, log: env.Log.Named("loadbalancer"), pool: pool, services: env.Services()}
	c.queue = env.Queue("service_lb", 1, c.reconcile)
	c.services.OnChange(func(old, now *corev1.Service) {
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
		if old != nil && len(old.Status.LoadBalancer.Ingress) > 0 && (now == nil || len(addresses(now)) < len(addresses(old))) {
			c.lookAtWaiting()
		}
	})
	return c, nil
}

// lookAtWaiting looks at the Services that lack an address.
func (c *Controller) lookAtWaiting() {
	for s := range c.services.All() {
		if ours(s) && len(addresses(s)) < len(families(s)) {
			c.queue.Add(reconcile.KeyOf(s))
		}
	}
}

// Run gives addresses until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.given = map[types.UID][]netip.Addr{}
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.services.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	s, ok := c.services.Get(key.Namespace, key.Name)
	if !ok || !ours(s) && !slices.ContainsFunc(addresses(s), c.pool.has) || s.Spec.LoadBalancerClass != nil && *s.Spec.LoadBalancerClass != Class {
		return reconcile.Result{}, nil
	}
	want, problem := plan(s, c.pool, c.taken(s))
	if problem != "" {
		c.env.Events.Event(s, corev1.EventTypeWarning, "AllocationFailed", "no load balancer address: %s", problem)
	}
	if have := s.Status.LoadBalancer.Ingress; len(have) == len(want) && slices.Equal(addresses(s), want) {
		return reconcile.Result{}, nil
	}
	out := s.DeepCopy()
	out.Status.LoadBalancer.Ingress = ingress(want)
	c.given[s.UID] = want
	if _, err := client.Services.Update(ctx, c.env.API, out, "status"); err != nil {
		delete(c.given, s.UID)
		return reconcile.Result{}, control.Gone(fmt.Errorf("give Service %s its addresses %v: %w", key, want, err))
	}
	if len(want) > 0 {
		c.env.Events.Event(s, corev1.EventTypeNormal, "AddressAllocated", "load balancer addresses: %v", want)
	}
	c.log.Info("gave load balancer addresses", zap.String("namespace", s.Namespace), zap.String("name", s.Name), zap.Stringers("addresses", want))
	return reconcile.Result{}, nil
}

// taken are the addresses that the Service cannot have: those of Services before it, and of all others unless they have
// just lost them to it.
func (c *Controller) taken(s *corev1.Service) map[netip.Addr]bool {
	taken := map[netip.Addr]bool{}
	mine := addresses(s)
	there := map[types.UID]bool{}
	for other := range c.services.All() {
		there[other.UID] = true
		if other.UID == s.UID {
			continue
		}
		for _, a := range slices.Concat(addresses(other), c.given[other.UID]) {
			if !slices.Contains(mine, a) || before(other, s) {
				taken[a] = true
			}
		}
	}
	for uid := range c.given {
		if !there[uid] {
			delete(c.given, uid)
		}
	}
	return taken
}
