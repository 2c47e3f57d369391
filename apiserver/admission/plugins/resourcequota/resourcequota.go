// Package resourcequota keeps a namespace within its ResourceQuotas: what an object takes is added to the status of every
// quota that counts it before the object is written, and the write is refused when a quota would be exceeded.
//
// The addition is a write of its own that nobody can overtake, so that many creates at once never exceed a quota, however
// many API servers there are. What is charged for a write that then fails is taken off again by the quota controller,
// which counts what is really there.
package resourcequota

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/resource"
	"hardway/shared/quota"
)

// Plugin is the plugin. It comes last in the chain: nothing may refuse what it has charged.
type Plugin struct {
	// Quotas lists those of a namespace, up to date.
	Quotas func(ctx context.Context, namespace string) ([]*corev1.ResourceQuota, error)
	// Charge changes the status of a quota: change gets a private copy of it as it is now, as often as it takes.
	Charge func(ctx context.Context, namespace, name string, change func(q *corev1.ResourceQuota) error) error

	locks [64]sync.Mutex // by namespace: creates of this server wait for each other instead of racing
}

var seed = maphash.MakeSeed()

// Name is upstream's.
func (*Plugin) Name() string { return "ResourceQuota" }

// charge is what a write adds to the use of its namespace.
type charge struct {
	gr       schema.GroupResource
	obj, old resource.Object
	added    corev1.ResourceList
}

// Validate charges the namespace's quotas, or refuses.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Namespace == "" || a.Object == nil || !counts(a) {
		return nil
	}
	quotas, err := p.Quotas(ctx, a.Namespace)
	if err != nil {
		return admission.Forbid(a, "look at quotas: %w", err)
	}
	if len(quotas) == 0 {
		return nil
	}
	c := newCharge(a, time.Now())
	var charged []*corev1.ResourceQuota
	for _, q := range quotas {
		use, err := c.against(q)
		if err != nil {
			return forbid(a, err)
		}
		if len(use) > 0 {
			charged = append(charged, q)
		}
	}
	if a.DryRun || len(charged) == 0 {
		return nil
	}
	lock := &p.locks[maphash.String(seed, a.Namespace)%uint64(len(p.locks))]
	lock.Lock()
	defer lock.Unlock()
	for _, q := range charged {
		err := p.Charge(ctx, q.Namespace, q.Name, func(now *corev1.ResourceQuota) error {
			use, err := c.against(now)
			if err == nil {
				quota.Add(now.Status.Used, use)
			}
			return err
		})
		if err != nil && !apierrors.IsNotFound(err) { // a quota that has gone limits nothing
			return forbid(a, err)
		}
	}
	return nil
}

// forbid refuses with a quota's reason and passes on what is no reason of a quota.
func forbid(a *admission.Attributes, err error) error {
	if reason := (*refusal)(nil); errors.As(err, &reason) {
		return admission.Forbid(a, "%w", reason)
	}
	return err
}

// refusal is the reason of a quota.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// counts says whether a write can take something: new objects, and changes of those that can grow.
func counts(a *admission.Attributes) bool {
	if a.Operation == admission.Create {
		return a.Subresource == ""
	}
	if a.Operation != admission.Update {
		return false
	}
	switch a.Object.(type) {
	case *corev1.Pod:
		return a.Subresource == "resize"
	case *corev1.Service, *corev1.PersistentVolumeClaim:
		return a.Subresource == ""
	}
	return false
}

func newCharge(a *admission.Attributes, now time.Time) *charge {
	c := &charge{gr: a.Kind.GroupResource(), obj: a.Object, old: a.Old}
	c.added = quota.Usage(c.gr, a.Object, now)
	if a.Old == nil {
		return c
	}
	for name, was := range quota.Usage(c.gr, a.Old, now) {
		more := c.added[name]
		more.Sub(was)
		c.added[name] = more
	}
	return c
}

// against returns what to add to the use of a quota: nothing when it does not count the object.
func (c *charge) against(q *corev1.ResourceQuota) (corev1.ResourceList, error) {
	if !quota.Matches(q, c.obj) {
		return nil, nil
	}
	hard := q.Status.Hard
	if pod, ok := c.obj.(*corev1.Pod); ok && c.old == nil {
		if err := quota.Unsaid(pod, hard); err != nil {
			return nil, refuse("failed quota: %s: %v", q.Name, err)
		}
	}
	more, over, unknown := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for name, q2 := range quota.Of(c.added, hard) {
		if q2.Sign() <= 0 {
			continue // what is given back is counted by the controller
		}
		more[name] = q2
		used, known := q.Status.Used[name]
		if !known {
			unknown[name] = q2
		}
		used.Add(q2)
		if limit := hard[name]; used.Cmp(limit) > 0 {
			over[name] = q2
		}
	}
	if len(unknown) > 0 {
		return nil, refuse("status unknown for quota: %s, resources: %s", q.Name, names(unknown))
	}
	if len(over) > 0 {
		return nil, refuse("exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name,
			quota.Text(over), quota.Text(quota.Of(q.Status.Used, over)), quota.Text(quota.Of(hard, over)))
	}
	return more, nil
}

// names lists the names of amounts.
func names(l corev1.ResourceList) string {
	words := make([]string, 0, len(l))
	for name := range l {
		words = append(words, string(name))
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}
