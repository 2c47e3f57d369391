package quota

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"hardway/controllers/cleanup/resources"
	"hardway/controllers/control"
	"hardway/shared/client"
)

// kinds are the objects that quotas count. Pods, Services and claims come from the shared caches, of other kinds the
// metadata is watched from the day that a quota names the kind.
type kinds struct {
	pods     control.Pods
	services *client.Informer[corev1.Service]
	claims   control.Claims

	finder  *resources.Finder
	objects metadata.Interface
	changed func(namespace string) // an object came or went

	mu      sync.Mutex
	watched map[schema.GroupResource]cache.SharedIndexInformer // guarded by mu; ended by its term's context
	wg      sync.WaitGroup
}

func newKinds(env control.Env, changed func(namespace string)) (*kinds, error) {
	cfg := env.API.Config()
	objects, err := metadata.NewForConfigAndClient(metadata.ConfigFor(cfg), env.API.HTTP())
	if err != nil {
		return nil, fmt.Errorf("make a client for metadata: %w", err)
	}
	finder, err := resources.NewFinder(cfg)
	if err != nil {
		return nil, err
	}
	return &kinds{
		pods: env.Pods(), services: env.Services(), claims: env.Claims(), finder: finder, objects: objects, changed: changed,
		watched: map[schema.GroupResource]cache.SharedIndexInformer{},
	}, nil
}

// end waits for the watches of a term, whose context has ended, and forgets them.
func (k *kinds) end() {
	k.wg.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.watched)
}

// in returns the objects of a namespace, of the wanted kinds that are served, once their caches are filled. term is the
// context that new watches live in.
func (k *kinds) in(ctx, term context.Context, namespace string, wanted map[schema.GroupResource]bool) (map[schema.GroupResource]iter.Seq[runtime.Object], error) {
	out := map[schema.GroupResource]iter.Seq[runtime.Object]{}
	for gr := range wanted {
		switch gr {
		case pods:
			out[gr] = objectsOf(k.pods.InNamespace(namespace))
		case services:
			out[gr] = objectsOf(k.services.InNamespace(namespace))
		case claims:
			out[gr] = objectsOf(k.claims.InNamespace(namespace))
		default:
			i, err := k.informer(ctx, term, gr)
			if err != nil {
				return nil, err
			}
			if i == nil {
				continue // not served
			}
			if !cache.WaitForCacheSync(ctx.Done(), i.HasSynced) {
				return nil, ctx.Err()
			}
			objs, err := i.GetIndexer().ByIndex(cache.NamespaceIndex, namespace)
			if err != nil {
				return nil, fmt.Errorf("look for %s in %s: %w", gr, namespace, err)
			}
			out[gr] = func(yield func(runtime.Object) bool) {
				for _, o := range objs {
					if obj, ok := o.(runtime.Object); ok && !yield(obj) {
						return
					}
				}
			}
		}
	}
	return out, nil
}

func objectsOf[T any](seq iter.Seq[*T]) iter.Seq[runtime.Object] {
	return func(yield func(runtime.Object) bool) {
		for o := range seq {
			if obj, ok := any(o).(runtime.Object); ok && !yield(obj) {
				return
			}
		}
	}
}

// informer returns the watch of a kind's metadata, a new one if need be; nil for a kind that is not served.
func (k *kinds) informer(ctx, term context.Context, gr schema.GroupResource) (cache.SharedIndexInformer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if i := k.watched[gr]; i != nil {
		return i, nil
	}
	set, err := k.finder.Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for resource %s: %w", gr, err)
	}
	at := slices.IndexFunc(set.All, func(r resources.Resource) bool {
		return r.GroupResource() == gr && r.Namespaced && r.Can("list", "watch")
	})
	if at < 0 {
		return nil, nil
	}
	of := k.objects.Resource(set.All[at].GroupVersionResource)
	i := cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return of.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return of.Watch(ctx, o) },
	}, &metav1.PartialObjectMetadata{}, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	// Both fail only on an informer that runs already.
	_ = i.SetTransform(nameOnly)
	_, _ = i.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: k.cameOrWent, DeleteFunc: k.cameOrWent})
	k.watched[gr] = i
	k.wg.Go(func() { i.RunWithContext(term) })
	return i, nil
}

func (k *kinds) cameOrWent(obj any) {
	if tomb, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tomb.Obj
	}
	if meta, ok := obj.(metav1.Object); ok {
		k.changed(meta.GetNamespace())
	}
}

// nameOnly keeps what tells objects apart: they are only counted.
func nameOnly(obj any) (any, error) {
	if o, ok := obj.(*metav1.PartialObjectMetadata); ok {
		o.ObjectMeta = metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion}
	}
	return obj, nil
}
