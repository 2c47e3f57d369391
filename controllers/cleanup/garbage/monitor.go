package garbage

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"hardway/controllers/cleanup/resources"
)

// monitor feeds the metadata of all objects of one resource into the graph. It keeps no copy: it is the store of a
// reflector that passes everything on.
type monitor struct {
	resource *resources.Resource
	graph    *graph
	look     func([]types.UID)
	synced   chan struct{} // closed after the first full list
	stop     context.CancelFunc
	done     chan struct{} // closed when the reflector has ended
}

// startMonitor watches until stop is called or ctx ends.
func startMonitor(ctx context.Context, client metadata.Interface, r resources.Resource, g *graph, look func([]types.UID)) *monitor {
	ctx, stop := context.WithCancel(ctx)
	m := &monitor{
		resource: &r, graph: g, look: look, synced: make(chan struct{}), stop: stop, done: make(chan struct{}),
	}
	objects := client.Resource(r.GroupVersionResource)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return objects.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return objects.Watch(ctx, o)
		},
	}
	reflector := cache.NewReflectorWithOptions(lw, &metav1.PartialObjectMetadata{}, m, cache.ReflectorOptions{
		Name: "garbage " + r.GroupResource().String(),
	})
	go func() {
		defer close(m.done)
		reflector.RunWithContext(ctx)
	}()
	return m
}

// end stops the watch and waits for it.
func (m *monitor) end() {
	m.stop()
	<-m.done
}

// hasSynced reports whether the graph has all objects of the resource.
func (m *monitor) hasSynced() bool {
	select {
	case <-m.synced:
		return true
	default:
		return false
	}
}

// Add implements cache.Store for the reflector.
func (m *monitor) Add(obj any) error { return m.Update(obj) }

// Update implements cache.Store for the reflector.
func (m *monitor) Update(obj any) error {
	if meta, ok := obj.(metav1.Object); ok {
		m.look(m.graph.observe(m.resource, meta))
	}
	return nil
}

// Delete implements cache.Store for the reflector. A watch that says so is certain.
func (m *monitor) Delete(obj any) error {
	if meta, ok := obj.(metav1.Object); ok {
		m.look(m.graph.remove(meta.GetUID(), true))
	}
	return nil
}

// Replace implements cache.Store for the reflector: what a list lacks is only supposed to be gone, because a list may
// come from a server that is behind.
func (m *monitor) Replace(list []any, _ string) error {
	missing := m.graph.uids(m.resource.GroupResource())
	for _, obj := range list {
		if meta, ok := obj.(metav1.Object); ok {
			delete(missing, meta.GetUID())
			m.look(m.graph.observe(m.resource, meta))
		}
	}
	for uid := range missing {
		m.look(m.graph.remove(uid, false))
	}
	if !m.hasSynced() {
		close(m.synced)
	}
	return nil
}

// List implements cache.Store; nobody asks.
func (m *monitor) List() []any { return nil }

// ListKeys implements cache.Store; nobody asks.
func (m *monitor) ListKeys() []string { return nil }

// Get implements cache.Store; nobody asks.
func (m *monitor) Get(any) (any, bool, error) { return nil, false, nil }

// GetByKey implements cache.Store; nobody asks.
func (m *monitor) GetByKey(string) (any, bool, error) { return nil, false, nil }

// Resync implements cache.Store: there is nothing to do again.
func (m *monitor) Resync() error { return nil }

// waitTime bounds how long the start of a term waits for one resource: a kind whose server hangs must not hold up the
// collection of all others. Its objects are then unknown, and owners of that kind are asked for.
const waitTime = 10 * time.Second
