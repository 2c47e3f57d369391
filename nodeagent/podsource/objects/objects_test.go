package objects

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// api serves one ConfigMap and lets a test change it.
type api struct {
	mu      sync.Mutex
	value   *corev1.ConfigMap
	watches []*watch.RaceFreeFakeWatcher
	lists   int
	fail    error
}

func (a *api) Get(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.value == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
	}
	return a.value, nil
}

func (a *api) List(_ context.Context, _ string, o metav1.ListOptions) ([]corev1.ConfigMap, string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists++
	if a.fail != nil {
		return nil, "", a.fail
	}
	if o.FieldSelector != "metadata.name=cm" {
		return nil, "", errors.New("more than the one object was asked for")
	}
	if a.value == nil {
		return nil, "1", nil
	}
	return []corev1.ConfigMap{*a.value}, "1", nil
}

func (a *api) Watch(context.Context, string, metav1.ListOptions) (watch.Interface, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := watch.NewRaceFreeFake()
	a.watches = append(a.watches, w)
	return w, nil
}

func (a *api) change(v *corev1.ConfigMap) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.value = v
	for _, w := range a.watches {
		w.Modify(v)
	}
}

func object(version, data string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm", ResourceVersion: version}, Data: map[string]string{"k": data}}
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{value: object("1", "old")}
		var changes []Key
		c := New[corev1.ConfigMap](a, "configmaps", func(k Key) { changes = append(changes, k) }, zap.NewNop())
		k := Key{"ns", "cm"}
		if _, err := c.Get(t.Context(), k); err == nil {
			t.Error("an object that nobody refers to was read")
		}
		c.Acquire(k)
		c.Acquire(k)
		v, err := c.Get(t.Context(), k)
		if err != nil || v.Data["k"] != "old" {
			t.Fatalf("%v %v", v, err)
		}
		a.change(object("2", "new"))
		synctest.Wait()
		if v, _ := c.Get(t.Context(), k); v.Data["k"] != "new" || len(changes) != 1 {
			t.Errorf("%v, %d changes", v.Data, len(changes))
		}
		if a.lists != 1 {
			t.Errorf("two users share one watch: %d lists", a.lists)
		}
		a.watches[0].Stop() // the connection breaks
		time.Sleep(time.Minute)
		synctest.Wait()
		if v, err := c.Get(t.Context(), k); err != nil || v.Data["k"] != "new" || a.lists != 2 {
			t.Errorf("after a broken watch: %v %v, %d lists", v, err, a.lists)
		}
		c.Release(k)
		if _, err := c.Get(t.Context(), k); err != nil {
			t.Error("one user is left:", err)
		}
		c.Release(k)
		if _, err := c.Get(t.Context(), k); err == nil {
			t.Error("nobody is left")
		}
		synctest.Wait()
		a.watches[1].Stop()
	})
}

func TestMissingIsAskedForDirectly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{}
		c := New[corev1.ConfigMap](a, "configmaps", func(Key) {}, zap.NewNop())
		k := Key{"ns", "cm"}
		c.Acquire(k)
		if _, err := c.Get(t.Context(), k); !IsMissing(err) {
			t.Errorf("%v", err)
		}
		a.mu.Lock()
		a.value = object("1", "just made")
		a.mu.Unlock()
		if v, err := c.Get(t.Context(), k); err != nil || v.Data["k"] != "just made" {
			t.Errorf("%v %v", v, err)
		}
		c.Release(k)
		synctest.Wait()
		for _, w := range a.watches {
			w.Stop()
		}
	})
}

func TestGetEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{fail: errors.New("no connection")}
		c := New[corev1.ConfigMap](a, "configmaps", func(Key) {}, zap.NewNop())
		k := Key{"ns", "cm"}
		c.Acquire(k)
		defer c.Release(k)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Get(ctx, k); !errors.Is(err, context.DeadlineExceeded) || IsMissing(err) {
			t.Errorf("%v", err)
		}
	})
}

func TestReferences(t *testing.T) {
	ref := func(n string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: n} }
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: corev1.PodSpec{
		ImagePullSecrets: []corev1.LocalObjectReference{ref("pull")},
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("a")}}},
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref("b")}}, {Secret: &corev1.SecretProjection{LocalObjectReference: ref("t")}}}}}},
		},
		InitContainers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("c")}}}}},
		Containers: []corev1.Container{{Env: []corev1.EnvVar{
			{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("a")}}},
			{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("u")}}}}}},
	}}
	names := func(keys []Key) (out string) {
		for _, k := range keys {
			out += k.Namespace + "/" + k.Name + " "
		}
		return out
	}
	configMaps, secrets := References(pod)
	if names(configMaps) != "ns/a ns/b ns/c " || names(secrets) != "ns/s ns/t ns/u ns/pull " {
		t.Errorf("%s| %s", names(configMaps), names(secrets))
	}
}
