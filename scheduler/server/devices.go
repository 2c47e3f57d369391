package server

import (
	"context"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/scheduler/framework"
	"hardway/shared/client"
)

// followDevices keeps the loop's picture of devices, and wakes the pods that a change may help.
func (s *sources) followDevices(ctx context.Context, l *loop) {
	of := l.cluster.View.Devices
	follow(ctx, s, client.DeviceClasses, client.Options{Transform: slim}).OnChange(func(old, now *resourcev1.DeviceClass) {
		l.mail.post(func(t time.Time) {
			if now == nil {
				delete(of.Classes, old.Name)
				return
			}
			of.Classes[now.Name] = now
			l.changed(framework.Change{What: framework.DevicesChanged, Object: now}, t)
		})
	})
	follow(ctx, s, client.ResourceSlices, client.Options{Transform: slim}).OnChange(func(old, now *resourcev1.ResourceSlice) {
		l.mail.post(func(t time.Time) {
			if now == nil {
				of.RemoveSlice(old.Name)
			} else if old == nil || !equality.Semantic.DeepEqual(old.Spec, now.Spec) {
				of.SetSlice(now)
			} else {
				return
			}
			l.changed(framework.Change{What: framework.DevicesChanged, Object: now}, t) // a slice that is gone may complete a pool
		})
	})
	follow(ctx, s, client.ResourceClaims, client.Options{Transform: slim}).OnChange(func(old, now *resourcev1.ResourceClaim) {
		l.mail.post(func(t time.Time) {
			if now == nil {
				of.RemoveClaim(old.Namespace, old.Name)
				l.changed(framework.Change{What: framework.DevicesChanged, Object: old, Freed: old.Status.Allocation != nil}, t)
				return
			}
			of.SetClaim(now)
			freed := old != nil && old.Status.Allocation != nil && now.Status.Allocation == nil
			if old == nil || freed || !equality.Semantic.DeepEqual(old.Status, now.Status) {
				l.changed(framework.Change{What: framework.DevicesChanged, Object: now, Freed: freed}, t)
			}
		})
	})
}

// slim drops who wrote which field.
func slim(o any) (any, error) {
	if m, ok := o.(interface {
		SetManagedFields([]metav1.ManagedFieldsEntry)
	}); ok {
		m.SetManagedFields(nil)
	}
	return o, nil
}

// claims implements dynamicresources.Writer. Updates are refused when somebody else has changed the claim since.
type claims struct{ api *client.API }

func (w claims) Claim(ctx context.Context, namespace, name string) (*resourcev1.ResourceClaim, error) {
	return client.ResourceClaims.Get(ctx, w.api, namespace, name)
}

func (w claims) UpdateClaim(ctx context.Context, c *resourcev1.ResourceClaim) (*resourcev1.ResourceClaim, error) {
	return client.ResourceClaims.Update(ctx, w.api, c)
}

func (w claims) UpdateClaimStatus(ctx context.Context, c *resourcev1.ResourceClaim) (*resourcev1.ResourceClaim, error) {
	return client.ResourceClaims.Update(ctx, w.api, c, "status")
}
