package client

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// Informers are the watches of one daemon: one for each kind and Options, however many parts ask for it.
type Informers struct {
	api *API
	log *zap.Logger

	mu      sync.Mutex
	shared  map[string]any // typed *Informer by kind and options; guarded by mu
	started []cache.SharedIndexInformer
	running context.Context // set by Run; guarded by mu
	wg      sync.WaitGroup
}

// NewInformers makes an empty set. Ask for informers, then Run; what is asked for later starts at once.
func NewInformers(api *API, log *zap.Logger) *Informers {
	return &Informers{api: api, log: log, shared: map[string]any{}}
}

// Run starts the watches and blocks until ctx ends and all have stopped.
func (in *Informers) Run(ctx context.Context) error {
	in.mu.Lock()
	in.running = ctx
	for _, i := range in.started {
		in.start(ctx, i)
	}
	in.mu.Unlock()
	<-ctx.Done()
	in.wg.Wait()
	return nil
}

// start needs in.mu.
func (in *Informers) start(ctx context.Context, i cache.SharedIndexInformer) {
	in.wg.Go(func() { i.RunWithContext(ctx) })
}

// WaitForSync blocks until every informer asked for so far has the state of the server and its handlers have seen
// it, or until ctx ends, when it returns false.
func (in *Informers) WaitForSync(ctx context.Context) bool {
	in.mu.Lock()
	informers := append([]cache.SharedIndexInformer(nil), in.started...)
	in.mu.Unlock()
	for _, i := range informers {
		if !waitSynced(ctx, i.HasSynced) {
			return false
		}
	}
	return true
}

func waitSynced(ctx context.Context, synced func() bool) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !synced() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// Options narrow an informer down and say how its objects are indexed.
type Options struct {
	Namespace, FieldSelector, LabelSelector string
	Indexes                                 map[string]func(obj any) []string
	// Transform changes an object before it is kept; nil drops managedFields, which no daemon reads.
	Transform func(obj any) (any, error)
}

// Informer keeps the objects of a kind as the server has them. Objects it returns are shared: read only.
type Informer[T any] struct{ shared cache.SharedIndexInformer }

// Informer returns the informer of this kind with these options; parts of a daemon that ask alike get the same one,
// and its indexes are those of all of them.
func (k Kind[T, L]) Informer(in *Informers, o Options) *Informer[T] {
	key := fmt.Sprintf("%s|%s|%s|%s", k.GVK(), o.Namespace, o.FieldSelector, o.LabelSelector)
	in.mu.Lock()
	defer in.mu.Unlock()
	if found, ok := in.shared[key]; ok {
		i := found.(*Informer[T])
		i.addIndexes(o.Indexes)
		return i
	}
	narrow := func(lo *metav1.ListOptions) {
		lo.FieldSelector, lo.LabelSelector = o.FieldSelector, o.LabelSelector
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, lo metav1.ListOptions) (runtime.Object, error) {
			narrow(&lo)
			list, err := k.List(ctx, in.api, o.Namespace, lo)
			if err != nil {
				return nil, err
			}
			return any(list).(runtime.Object), nil
		},
		WatchFuncWithContext: func(ctx context.Context, lo metav1.ListOptions) (watch.Interface, error) {
			narrow(&lo)
			return k.Watch(ctx, in.api, o.Namespace, lo)
		},
	}
	i := &Informer[T]{cache.NewSharedIndexInformer(lw, any(new(T)).(runtime.Object), 0,
		cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})}
	i.addIndexes(o.Indexes)
	transform := o.Transform
	if transform == nil {
		transform = dropManagedFields
	}
	// Both setters fail only on an informer that runs already.
	_ = i.shared.SetTransform(transform)
	_ = i.shared.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		in.log.Debug("watch ended, starting again", zap.String("kind", k.Name), zap.Error(err))
	})
	in.shared[key] = i
	in.started = append(in.started, i.shared)
	if in.running != nil {
		in.start(in.running, i.shared)
	}
	return i
}

func dropManagedFields(obj any) (any, error) {
	if meta, ok := obj.(metav1.Object); ok && !isNil(meta) {
		meta.SetManagedFields(nil)
	}
	return obj, nil
}

func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}

func (i *Informer[T]) addIndexes(indexes map[string]func(any) []string) {
	add := cache.Indexers{}
	have := i.shared.GetIndexer().GetIndexers()
	for name, f := range indexes {
		if _, ok := have[name]; !ok {
			add[name] = func(obj any) ([]string, error) { return f(obj), nil }
		}
	}
	if len(add) > 0 {
		_ = i.shared.AddIndexers(add) // fails only for an index that exists
	}
}

// Get returns one object.
func (i *Informer[T]) Get(namespace, name string) (*T, bool) {
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	obj, ok, _ := i.shared.GetIndexer().GetByKey(key)
	if !ok {
		return nil, false
	}
	return obj.(*T), true
}

// All goes over all objects, in no order.
func (i *Informer[T]) All() iter.Seq[*T] { return each[T](i.shared.GetIndexer().List()) }

// InNamespace goes over the objects of a namespace, in no order.
func (i *Informer[T]) InNamespace(namespace string) iter.Seq[*T] {
	objs, _ := i.shared.GetIndexer().ByIndex(cache.NamespaceIndex, namespace)
	return each[T](objs)
}

// ByIndex returns the objects that an index of Options files under key, in no order. An index that nobody declared
// has none.
func (i *Informer[T]) ByIndex(index, key string) []*T {
	objs, _ := i.shared.GetIndexer().ByIndex(index, key)
	out := make([]*T, 0, len(objs))
	for o := range each[T](objs) {
		out = append(out, o)
	}
	return out
}

func each[T any](objs []any) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for _, o := range objs {
			if !yield(o.(*T)) {
				return
			}
		}
	}
}

// OnChange calls f for every object there is and for every change: old is nil when the object is new, now is nil when
// it is gone. Calls come one at a time, in order; f must not block.
func (i *Informer[T]) OnChange(f func(old, now *T)) {
	_, _ = i.shared.AddEventHandler(cache.ResourceEventHandlerFuncs{ // fails only on an informer that has ended
		AddFunc:    func(obj any) { f(nil, obj.(*T)) },
		UpdateFunc: func(old, now any) { f(old.(*T), now.(*T)) },
		DeleteFunc: func(obj any) {
			if tomb, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tomb.Obj
			}
			if o, ok := obj.(*T); ok {
				f(o, nil)
			}
		},
	})
}

// HasSynced says whether the state of the server has arrived once.
func (i *Informer[T]) HasSynced() bool { return i.shared.HasSynced() }
