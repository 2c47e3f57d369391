// Package objects keeps the ConfigMaps and Secrets that the pods of this node refer to, and no others: one watch per
// referenced object, shared by all pods that name it, ended when the last of them lets go. That is also all that a
// node may read. The number of watches is bounded by the references of the pods that fit on a node.
package objects

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// Key names an object.
type Key struct{ Namespace, Name string }

// Source reads one kind of object from the API.
type Source[T any] interface {
	Get(ctx context.Context, namespace, name string) (*T, error)
	List(ctx context.Context, namespace string, opts metav1.ListOptions) ([]T, string, error) // items and resourceVersion
	Watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error)
}

// Object is a pointer to an API type.
type Object[T any] interface {
	*T
	runtime.Object
	metav1.Object
}

// Cache holds the referenced objects of one kind.
type Cache[T any, P Object[T]] struct {
	source   Source[T]
	resource schema.GroupResource
	changed  func(Key) // an object appeared, changed or went away
	log      *zap.Logger

	mu      sync.Mutex // guards entries
	entries map[Key]*entry[T]
}

// entry is one watched object. value is nil while the object does not exist.
type entry[T any] struct {
	users  int
	cancel context.CancelFunc
	ready  chan struct{} // closed once the object's first state is known
	once   sync.Once
	mu     sync.Mutex // guards value
	value  *T
}

// New makes a cache; changed is called from the watching goroutines and must not block.
func New[T any, P Object[T]](source Source[T], resource string, changed func(Key), log *zap.Logger) *Cache[T, P] {
	return &Cache[T, P]{
		source: source, resource: schema.GroupResource{Resource: resource}, changed: changed, log: log,
		entries: map[Key]*entry[T]{},
	}
}

// Acquire starts watching an object, or joins those who do. Every Acquire needs a Release.
func (c *Cache[T, P]) Acquire(k Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[k]; e != nil {
		e.users++
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &entry[T]{users: 1, cancel: cancel, ready: make(chan struct{})}
	c.entries[k] = e
	go c.follow(ctx, k, e)
}

// Release lets go of an object.
func (c *Cache[T, P]) Release(k Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[k]
	if e == nil {
		return
	}
	if e.users--; e.users == 0 {
		e.cancel()
		delete(c.entries, k)
	}
}

// Get returns an acquired object, waiting for its first state. The object is shared: read only. One that the watch
// does not show is asked for once more directly, because a pod and its ConfigMap are often created in one breath.
func (c *Cache[T, P]) Get(ctx context.Context, k Key) (*T, error) {
	c.mu.Lock()
	e := c.entries[k]
	c.mu.Unlock()
	if e == nil {
		return nil, fmt.Errorf("%s %s/%s is not referenced by a pod of this node", c.resource.Resource, k.Namespace, k.Name)
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for %s %s/%s: %w", c.resource.Resource, k.Namespace, k.Name, context.Cause(ctx))
	}
	if v := e.get(); v != nil {
		return v, nil
	}
	v, err := c.source.Get(ctx, k.Namespace, k.Name)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (e *entry[T]) get() *T {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.value
}

// follow lists and watches one object until ctx ends.
func (c *Cache[T, P]) follow(ctx context.Context, k Key, e *entry[T]) {
	delay := 100 * time.Millisecond
	for {
		began := time.Now()
		err := c.listAndWatch(ctx, k, e)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			delay = 100 * time.Millisecond
		}
		if err != nil {
			c.log.Debug("watch again", zap.String("resource", c.resource.Resource), zap.String("namespace", k.Namespace),
				zap.String("name", k.Name), zap.Error(err))
			delay = min(2*delay, 30*time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
	}
}

func (c *Cache[T, P]) listAndWatch(ctx context.Context, k Key, e *entry[T]) error {
	opts := metav1.ListOptions{FieldSelector: "metadata.name=" + k.Name}
	items, version, err := c.source.List(ctx, k.Namespace, opts)
	if err != nil {
		if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
			c.set(k, e, nil)
		}
		return err
	}
	if len(items) > 0 {
		c.set(k, e, &items[0])
	} else {
		c.set(k, e, nil)
	}
	opts.ResourceVersion = version
	w, err := c.source.Watch(ctx, k.Namespace, opts)
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		switch event.Type {
		case watch.Added, watch.Modified:
			if v, ok := event.Object.(P); ok {
				c.set(k, e, (*T)(v))
			}
		case watch.Deleted:
			c.set(k, e, nil)
		case watch.Error:
			return apierrors.FromObject(event.Object)
		}
	}
	return nil
}

// set stores a new state and tells of it if it is one.
func (c *Cache[T, P]) set(k Key, e *entry[T], v *T) {
	e.mu.Lock()
	same := e.value == nil && v == nil ||
		e.value != nil && v != nil && P(e.value).GetResourceVersion() == P(v).GetResourceVersion()
	e.value = v
	e.mu.Unlock()
	first := false
	e.once.Do(func() { first = true; close(e.ready) })
	if !same && !first {
		c.changed(k)
	}
}

// Set is both kinds that pods refer to.
type Set struct {
	ConfigMaps *Cache[corev1.ConfigMap, *corev1.ConfigMap]
	Secrets    *Cache[corev1.Secret, *corev1.Secret]
}

// References lists what a pod may ask a Set for, each object once.
func References(pod *corev1.Pod) (configMaps, secrets []Key) {
	r := refs{namespace: pod.Namespace, seenC: map[string]bool{}, seenS: map[string]bool{}}
	for i := range pod.Spec.Volumes {
		r.volume(&pod.Spec.Volumes[i])
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			r.env(list[i].Env, list[i].EnvFrom)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		r.env(pod.Spec.EphemeralContainers[i].Env, pod.Spec.EphemeralContainers[i].EnvFrom)
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		r.secret(s.Name)
	}
	return r.configMaps, r.secrets
}

type refs struct {
	namespace           string
	configMaps, secrets []Key
	seenC, seenS        map[string]bool
}

func (r *refs) configMap(name string) {
	if name != "" && !r.seenC[name] {
		r.seenC[name] = true
		r.configMaps = append(r.configMaps, Key{r.namespace, name})
	}
}

func (r *refs) secret(name string) {
	if name != "" && !r.seenS[name] {
		r.seenS[name] = true
		r.secrets = append(r.secrets, Key{r.namespace, name})
	}
}

func (r *refs) volume(v *corev1.Volume) {
	switch {
	case v.ConfigMap != nil:
		r.configMap(v.ConfigMap.Name)
	case v.Secret != nil:
		r.secret(v.Secret.SecretName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				r.configMap(s.ConfigMap.Name)
			}
			if s.Secret != nil {
				r.secret(s.Secret.Name)
			}
		}
	}
}

func (r *refs) env(env []corev1.EnvVar, from []corev1.EnvFromSource) {
	for _, f := range from {
		if f.ConfigMapRef != nil {
			r.configMap(f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			r.secret(f.SecretRef.Name)
		}
	}
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if s := e.ValueFrom.ConfigMapKeyRef; s != nil {
			r.configMap(s.Name)
		}
		if s := e.ValueFrom.SecretKeyRef; s != nil {
			r.secret(s.Name)
		}
	}
}

// Acquire holds everything the pod refers to.
func (s *Set) Acquire(pod *corev1.Pod) {
	configMaps, secrets := References(pod)
	for _, k := range configMaps {
		s.ConfigMaps.Acquire(k)
	}
	for _, k := range secrets {
		s.Secrets.Acquire(k)
	}
}

// Release undoes Acquire.
func (s *Set) Release(pod *corev1.Pod) {
	configMaps, secrets := References(pod)
	for _, k := range configMaps {
		s.ConfigMaps.Release(k)
	}
	for _, k := range secrets {
		s.Secrets.Release(k)
	}
}

// ConfigMap returns a referenced ConfigMap.
func (s *Set) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return s.ConfigMaps.Get(ctx, Key{namespace, name})
}

// Secret returns a referenced Secret.
func (s *Set) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return s.Secrets.Get(ctx, Key{namespace, name})
}

// IsMissing says whether an error of Get means that the object does not exist.
func IsMissing(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && apierrors.IsNotFound(err)
}
