package protection

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

const classFinalizer = "kubernetes.io/vac-protection"

// Classes protects VolumeAttributesClasses that claims or volumes have, want, or are about to get.
type Classes struct {
	env     control.Env
	classes *client.Informer[storagev1.VolumeAttributesClass]
	claims  control.Claims
	volumes control.Volumes
	queue   *control.Queue
}

// NewClasses makes the controller and has its caches filled.
func NewClasses(env control.Env) (control.Runner, error) {
	c := &Classes{env: env, classes: client.VolumeAttributesClasses.Informer(env.Informers, client.Options{}), claims: env.Claims(), volumes: env.Volumes()}
	c.queue = env.Queue("vacprotection", 2, c.reconcile)
	c.classes.OnChange(func(_, now *storagev1.VolumeAttributesClass) {
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	c.claims.OnChange(func(old, _ *corev1.PersistentVolumeClaim) {
		if old != nil {
			c.look(classesOfClaim(old)...)
		}
	})
	c.volumes.OnChange(func(old, _ *corev1.PersistentVolume) {
		if old != nil {
			c.look(old.Spec.VolumeAttributesClassName)
		}
	})
	return c, nil
}

// look brings back classes that are to be deleted: what named them has changed or is gone.
func (c *Classes) look(names ...*string) {
	for _, name := range names {
		if name == nil {
			continue
		}
		if class, ok := c.classes.Get("", *name); ok && class.DeletionTimestamp != nil {
			c.queue.Add(reconcile.KeyOf(class))
		}
	}
}

// classesOfClaim are the names of classes that a claim wants, has, and is about to get.
func classesOfClaim(c *corev1.PersistentVolumeClaim) []*string {
	out := []*string{c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName}
	if m := c.Status.ModifyVolumeStatus; m != nil {
		out = append(out, &m.TargetVolumeAttributesClassName)
	}
	return out
}

// Run protects until ctx ends.
func (c *Classes) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.classes.All()) })
}

func (c *Classes) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	class, ok := c.classes.Get("", key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	used := false
	if class.DeletionTimestamp != nil {
		var err error
		if used, err = c.used(ctx, key.Name); err != nil {
			return reconcile.Result{}, err
		}
	}
	finalizers, differ := change(class, classFinalizer, used)
	if !differ {
		return reconcile.Result{}, nil
	}
	class = class.DeepCopy()
	class.Finalizers = finalizers
	if _, err := client.VolumeAttributesClasses.Update(ctx, c.env.API, class); control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("change finalizers of volume attributes class %s: %w", key.Name, err)
	}
	return reconcile.Result{}, nil
}

// used says whether a claim or a volume names the class. That none does must be said by the server.
func (c *Classes) used(ctx context.Context, name string) (bool, error) {
	for claim := range c.claims.All() {
		if names(name, classesOfClaim(claim)...) {
			return true, nil
		}
	}
	for v := range c.volumes.All() {
		if names(name, v.Spec.VolumeAttributesClassName) {
			return true, nil
		}
	}
	claims, err := client.PersistentVolumeClaims.List(ctx, c.env.API, "", metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("look for claims of volume attributes class %s: %w", name, err)
	}
	for i := range claims.Items {
		if names(name, classesOfClaim(&claims.Items[i])...) {
			return true, nil
		}
	}
	volumes, err := client.PersistentVolumes.List(ctx, c.env.API, "", metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("look for volumes of volume attributes class %s: %w", name, err)
	}
	for i := range volumes.Items {
		if names(name, volumes.Items[i].Spec.VolumeAttributesClassName) {
			return true, nil
		}
	}
	return false, nil
}

func names(name string, in ...*string) bool {
	for _, n := range in {
		if n != nil && *n == name {
			return true
		}
	}
	return false
}
