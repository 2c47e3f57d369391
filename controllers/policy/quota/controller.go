// Package quota keeps the status of each ResourceQuota: what it limits, and how much of that is used.
//
// Reads quotas, and the objects of the kinds that they limit (kinds.go); writes the status of quotas. The API server
// adds what a new object takes before the object is there, so the sum is raised at once but lowered only when nothing
// was added for a moment: otherwise a pod on its way into our caches would not count.
package quota

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/controllers/podstate"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

const (
	// gather is how long changes of a namespace are gathered before they are counted: counting walks over all of it.
	gather = 50 * time.Millisecond
	// settle is how long nothing must have been added to a quota before its use is lowered.
	settle = 300 * time.Millisecond
	// again is when a quota is counted though nothing happened, and one that limits a kind which is not served.
	again, missing = 5 * time.Minute, 30 * time.Second
)

// Controller counts for all quotas.
type Controller struct {
	env    control.Env
	quotas *client.Informer[corev1.ResourceQuota]
	kinds  *kinds
	queue  *control.Queue
	term   context.Context //nolint:containedctx // set by Run before the queue takes keys: watches begin while it runs

	mu      sync.Mutex
	charged map[types.UID]time.Time // when the API server last added to a quota; guarded by mu
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{
		env: env, quotas: client.ResourceQuotas.Informer(env.Informers, client.Options{}), charged: map[types.UID]time.Time{},
	}
	c.queue = env.Queue("resource_quota", env.Config.WorkersFor("concurrent-resource-quota-syncs"), c.reconcile)
	var err error
	if c.kinds, err = newKinds(env, c.changed); err != nil {
		return nil, err
	}
	c.quotas.OnChange(c.quotaChanged)
	c.kinds.pods.OnChange(func(old, now *corev1.Pod) {
		switch {
		case now == nil:
			c.changed(old.Namespace)
		case old == nil || counts(old, now):
			c.changed(now.Namespace)
		}
	})
	c.kinds.services.OnChange(func(old, now *corev1.Service) {
		switch {
		case now == nil:
			c.changed(old.Namespace)
		case old == nil, old.Spec.Type != now.Spec.Type, len(old.Spec.Ports) != len(now.Spec.Ports):
			c.changed(now.Namespace)
		}
	})
	c.kinds.claims.OnChange(func(old, now *corev1.PersistentVolumeClaim) {
		if now == nil {
			now = old
		}
		c.changed(now.Namespace)
	})
	return c, nil
}

// counts reports whether a pod may take something else than before.
func counts(old, now *corev1.Pod) bool {
	return podstate.Terminal(old) != podstate.Terminal(now) || (old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil) ||
		old.Generation != now.Generation || len(old.Status.Conditions) != len(now.Status.Conditions)
}

// changed has the quotas of a namespace counted.
func (c *Controller) changed(namespace string) {
	for q := range c.quotas.InNamespace(namespace) {
		c.queue.AddAfter(reconcile.KeyOf(q), gather)
	}
}

func (c *Controller) quotaChanged(old, now *corev1.ResourceQuota) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case now == nil:
		delete(c.charged, old.UID)
	case old == nil || old.UID != now.UID || !same(old.Spec.Hard, now.Spec.Hard) || !same(now.Spec.Hard, now.Status.Hard):
		c.queue.Add(reconcile.KeyOf(now))
	case less(old.Status.Used, now.Status.Used):
		c.charged[now.UID] = time.Now()
	}
}

// Run counts until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	defer c.kinds.end()
	c.term = ctx
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.quotas.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	q, ok := c.quotas.Get(key.Namespace, key.Name)
	if !ok || q.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	objects, err := c.kinds.in(ctx, c.term, q.Namespace, kindsOf(q.Spec.Hard))
	if err != nil {
		return reconcile.Result{}, err
	}
	now := time.Now()
	used, until := count(q, objects, now)
	result := reconcile.Result{RequeueAfter: again}
	if len(used) < len(q.Spec.Hard) {
		result.RequeueAfter = missing
	}
	if !until.IsZero() {
		result.RequeueAfter = min(result.RequeueAfter, until.Sub(now)+time.Millisecond)
	}
	if same(q.Status.Hard, q.Spec.Hard) && same(q.Status.Used, used) {
		return result, nil
	}
	if rest := c.unsettled(q, now); rest > 0 && less(used, q.Status.Used) {
		return reconcile.Result{RequeueAfter: rest}, nil
	}
	out := *q
	out.Status = corev1.ResourceQuotaStatus{Hard: q.Spec.Hard, Used: used}
	if _, err := client.ResourceQuotas.Update(ctx, c.env.API, &out, "status"); control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("write status of ResourceQuota %s: %w", key, err)
	}
	return result, nil
}

// unsettled is how long to wait until the last addition to a quota counts as seen by our caches.
func (c *Controller) unsettled(q *corev1.ResourceQuota, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.charged[q.UID]
	if !ok {
		return 0
	}
	return settle - now.Sub(at)
}
