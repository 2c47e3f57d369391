package server

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/scheduler/framework"
	"hardway/shared/client"
)

// followStorage keeps the loop's picture of volumes.
func (s *sources) followStorage(ctx context.Context, l *loop) {
	of := l.cluster.View.Storage
	keep(l, follow(ctx, s, client.PersistentVolumeClaims, client.Options{}), of.Claims)
	keep(l, follow(ctx, s, client.PersistentVolumes, client.Options{}), of.Volumes)
	keep(l, follow(ctx, s, client.StorageClasses, client.Options{}), of.Classes)
	keep(l, follow(ctx, s, client.CSIDrivers, client.Options{}), of.Drivers)
	hold(l, follow(ctx, s, client.CSINodes, client.Options{}), of.SetNode)
	keep(l, follow(ctx, s, client.CSIStorageCapacities, client.Options{}), of.Capacities)
}

// keep holds the objects of an informer in a map of the loop's, and wakes the pods that a change may help.
func keep[T any](l *loop, from *client.Informer[T], in map[string]*T) {
	hold(l, from, func(key string, now *T) {
		if now == nil {
			delete(in, key)
		} else {
			in[key] = now
		}
	})
}

// hold is the same with what set does about an object; nil: it is gone.
func hold[T any](l *loop, from *client.Informer[T], set func(key string, now *T)) {
	from.OnChange(func(old, now *T) {
		l.mail.post(func(t time.Time) {
			if now == nil {
				set(keyOf(old), nil)
				l.changed(framework.Change{What: framework.StorageChanged}, t)
				return
			}
			set(keyOf(now), now)
			if old == nil || !sameStorage(old, now) {
				l.changed(framework.Change{What: framework.StorageChanged, Object: now}, t)
			}
		})
	})
}

func keyOf[T any](o *T) string {
	m := any(o).(metav1.Object)
	if m.GetNamespace() != "" {
		return m.GetNamespace() + "/" + m.GetName()
	}
	return m.GetName()
}

// sameStorage says of claims, which change most, that nothing has changed which a pod may wait for.
func sameStorage[T any](a, b *T) bool {
	x, isClaim := any(a).(*corev1.PersistentVolumeClaim)
	if !isClaim {
		return false
	}
	y := any(b).(*corev1.PersistentVolumeClaim)
	return x.Spec.VolumeName == y.Spec.VolumeName && x.Status.Phase == y.Status.Phase && maps.Equal(x.Annotations, y.Annotations)
}

// volumes implements volumebinding.Writer. Both updates are refused when somebody else has changed the object since.
type volumes struct{ api *client.API }

func (v volumes) UpdateVolume(ctx context.Context, pv *corev1.PersistentVolume) error {
	_, err := client.PersistentVolumes.Update(ctx, v.api, pv)
	return err
}

func (v volumes) UpdateClaim(ctx context.Context, c *corev1.PersistentVolumeClaim) error {
	_, err := client.PersistentVolumeClaims.Update(ctx, v.api, c)
	return err
}

func (v volumes) Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return client.PersistentVolumeClaims.Get(ctx, v.api, namespace, name)
}
