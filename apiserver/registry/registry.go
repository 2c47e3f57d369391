package registry

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/cache"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// Registry is what one kind can do. It is safe for concurrent use.
type Registry struct {
	kind      *resource.Kind
	gr        schema.GroupResource
	store     *store.Store
	cache     *cache.Cache
	admission admission.Chain
	hooks     Hooks
	eventTTL  int64 // seconds, for kinds with a time to live; 0: as the kind says
}

// Hooks are the runtime behaviour that a static declaration cannot have. Nil functions do nothing.
type Hooks struct {
	// Reserve is called before obj (old nil on create) is validated and written, and may fill it: addresses,
	// ports. It may be called again when a write was raced.
	Reserve func(ctx context.Context, obj, old resource.Object, dryRun bool) (Reservation, error)
	// Before is called, by the name of the subresource, with the newest object before what was sent acts on it. It may
	// refuse, or return something else to act in its place: then a Conflict means that it has to be asked again.
	Before map[string]func(ctx context.Context, obj resource.Object, sent runtime.Object, dryRun bool) (runtime.Object, error)
	// Released is called after the object is gone.
	Released func(ctx context.Context, obj resource.Object)
}

// Reservation is the outcome of Hooks.Reserve: exactly one of the two is called. Nil functions do nothing.
type Reservation struct {
	Commit func() // the object was written
	Undo   func() // it was not
}

// finish calls what the outcome asks for.
func (r Reservation) finish(written bool) {
	f := r.Undo
	if written {
		f = r.Commit
	}
	if f != nil {
		f()
	}
}

// New makes the registry of a kind.
func New(kind *resource.Kind, st *store.Store, c *cache.Cache, adm admission.Chain, hooks Hooks) *Registry {
	return &Registry{kind: kind, gr: kind.GroupResource(), store: st, cache: c, admission: adm, hooks: hooks}
}

// conflictAttempts is how often something that was judged by Before is judged anew.
const conflictAttempts = 8

// Act lets what was sent to a subresource act, once Hooks.Before agrees.
func (r *Registry) Act(ctx context.Context, namespace, name, sub string, sent runtime.Object, dryRun bool, act func(sent runtime.Object) error) error {
	before := r.hooks.Before[sub]
	if before == nil {
		return act(sent)
	}
	var err error
	for range conflictAttempts {
		var it *cache.Item
		if it, err = r.Get(ctx, namespace, name, ""); err != nil {
			return err
		}
		var judged runtime.Object
		if judged, err = before(ctx, it.Object, sent, dryRun); err != nil {
			return r.status(err, "create", name)
		}
		if err = act(judged); judged == sent || !apierrors.IsConflict(err) {
			return err
		}
	}
	return err
}

// Kind is the registry's kind.
func (r *Registry) Kind() *resource.Kind { return r.kind }

// Get returns one object. resourceVersion "" is linearizable, "0" is whatever the cache has, any other is at least
// that.
func (r *Registry) Get(ctx context.Context, namespace, name, resourceVersion string) (*cache.Item, error) {
	at, err := parseRevision(resourceVersion)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	switch {
	case resourceVersion == "":
		return r.found(name)(r.fresh(ctx, namespace, name))
	case at > 0:
		if err := r.wait(ctx, at); err != nil {
			return nil, err
		}
	}
	return r.found(name)(r.cache.Get(namespace, name))
}

// Find returns one object for the server's own use: as the cache has it, but never missing one that is there. The error
// is a Status.
func (r *Registry) Find(ctx context.Context, namespace, name string) (resource.Object, error) {
	it, err := r.Get(ctx, namespace, name, "0")
	if err != nil {
		it, err = r.Get(ctx, namespace, name, "")
	}
	if err != nil {
		return nil, err
	}
	return it.Object, nil
}

// found turns a lookup's outcome into an object or a Status.
func (r *Registry) found(name string) func(*cache.Item, error) (*cache.Item, error) {
	return func(it *cache.Item, err error) (*cache.Item, error) {
		switch {
		case err != nil:
			return nil, r.status(err, "get", name)
		case it == nil:
			return nil, apierrors.NewNotFound(r.gr, name)
		}
		return it, nil
	}
}

// fresh returns the object as it is now, nil when there is none: from the cache once that is up to date, or from etcd
// if that takes too long.
func (r *Registry) fresh(ctx context.Context, namespace, name string) (*cache.Item, error) {
	_, err := r.cache.Feed().Fresh(ctx)
	var late *cache.NotFresh
	switch {
	case err == nil:
		return r.cache.Get(namespace, name)
	case !errors.As(err, &late):
		return nil, err
	}
	kv, _, err := r.store.Get(ctx, r.cache.Key(namespace, name))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return r.item(ctx, kv)
}

// item decodes what etcd returned.
func (r *Registry) item(ctx context.Context, kv store.KV) (*cache.Item, error) {
	return cache.NewItem(ctx, r.cache.Codec(), r.cache.Prefix(), kv)
}

// wait waits until the cache has reached a revision that the client named.
func (r *Registry) wait(ctx context.Context, rev int64) error {
	err := r.cache.Feed().Wait(ctx, rev)
	var late *cache.NotFresh
	switch {
	case errors.As(err, &late):
		return tooLarge(late.Want, late.Have)
	case err != nil:
		return r.status(err, "get", "")
	}
	return nil
}
