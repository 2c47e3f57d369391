package crd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hardway/apiserver/cache"
	"hardway/apiserver/kinds/apiextensions"
	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
	"hardway/apiserver/webhook"
)

// Options are what an Engine is made of. All are needed.
type Options struct {
	Set    *registry.Set
	Caller *webhook.Caller
	// Publish replaces what is served. It is called by one goroutine.
	Publish func([]Served)
	Log     *zap.Logger
}

// Served is one version of a custom kind.
type Served struct {
	Registry *registry.Registry
	// Sealed: no new objects, the definition is being deleted.
	Sealed bool
}

// Engine serves what the definitions declare. All its state belongs to the loop in Run.
type Engine struct {
	Options
	definitions *registry.Registry
	wake        chan struct{}
	results     chan result

	live     map[string]*kind // by the definition's name
	building map[string]bool
	cleaning map[string]bool
	changed  bool // what is live is not yet published

	running sync.WaitGroup
}

// kind is one definition as it is served.
type kind struct {
	made    made
	served  []*registry.Registry
	storage *registry.Registry // of the storage version, served or not
	end     func()             // of its own feed
	sealed  bool
}

// made is what a served kind was made from; when it changes, the kind is made anew.
type made struct {
	uid        types.UID
	generation int64
	names      string
}

func madeFrom(d *definition) made {
	return made{d.UID, d.Generation, fmt.Sprint(d.Status.AcceptedNames)}
}

// result is what a goroutine beside the loop did for a definition.
type result struct {
	name    string
	kind    *kind // nil: it was a cleaning, or failed
	cleaned bool
	err     error
}

// New makes an Engine. Nothing runs yet.
func New(o Options) *Engine {
	return &Engine{
		Options: o, wake: make(chan struct{}, 1), results: make(chan result), live: map[string]*kind{}, building: map[string]bool{}, cleaning: map[string]bool{},
		definitions: o.Set.For(schema.GroupResource{Group: apiextensionsv1.GroupName, Resource: "customresourcedefinitions"}),
	}
}

// again is how long the engine waits after a trouble.
const again = 2 * time.Second

// Run serves until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer e.running.Wait()
	defer cancel()
	if e.Set.WaitForSync(ctx) != nil {
		return nil //nolint:nilerr // told to stop before there was anything to serve
	}
	e.running.Go(func() { e.follow(ctx) })
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		var old *kind
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-retry.C:
		case r := <-e.results:
			old = e.take(r)
			if r.err != nil && ctx.Err() == nil {
				e.Log.Error("custom kind", zap.String("name", r.name), zap.Error(r.err))
				retry.Reset(again)
			}
		}
		if err := e.sync(ctx); err != nil && ctx.Err() == nil {
			e.Log.Warn("custom kinds are not all served as they should be", zap.Error(err))
			retry.Reset(again)
		}
		if old != nil {
			e.drop(old) // only now that the new one is published
		}
	}
}

// take puts a new kind in the place of the one before, which it returns.
func (e *Engine) take(r result) (old *kind) {
	if r.cleaned {
		delete(e.cleaning, r.name)
		return nil
	}
	delete(e.building, r.name)
	if r.kind != nil {
		old = e.live[r.name]
		e.live[r.name], e.changed = r.kind, true
	}
	return old
}

// send hands a result to the loop.
func (e *Engine) send(ctx context.Context, r result) {
	select {
	case e.results <- r:
	case <-ctx.Done():
		if r.kind != nil {
			e.drop(r.kind)
		}
	}
}

// follow wakes the loop when definitions change.
func (e *Engine) follow(ctx context.Context) {
	for ctx.Err() == nil {
		w, err := e.definitions.Watch(ctx, registry.Query{})
		for err == nil {
			if _, err = w.Next(ctx); err == nil {
				select {
				case e.wake <- struct{}{}:
				default:
				}
			}
		}
		if w != nil {
			w.Stop()
		}
		select {
		case <-ctx.Done():
		case <-time.After(again / 10):
		}
	}
}

// sync makes what is served the same as what is declared.
func (e *Engine) sync(ctx context.Context) error {
	all, err := e.declared(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for i, d := range all {
		now, err := e.name(ctx, d, all)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.Name, err))
			continue
		}
		all[i] = now
		e.serve(ctx, now)
	}
	gone := e.retire(all)
	e.publish()
	for _, k := range gone {
		e.drop(k)
	}
	for _, d := range all {
		if err := e.finish(ctx, d); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.Name, err))
		}
	}
	return errors.Join(errs...)
}

// declared lists the definitions; who came first, and has the names, is first.
func (e *Engine) declared(ctx context.Context) ([]*definition, error) {
	found, err := e.definitions.List(ctx, registry.Query{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	all := make([]*definition, 0, len(found.Items))
	for _, it := range found.Items {
		if d, ok := it.Object.(*definition); ok {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b *definition) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all, nil
}

// name brings the names and conditions of a definition up to date and returns it as it then is.
func (e *Engine) name(ctx context.Context, d *definition, all []*definition) (*definition, error) {
	next := d.DeepCopy()
	decide(next, all)
	if equality.Semantic.DeepEqual(next.Status, d.Status) {
		return d, nil
	}
	return e.change(ctx, d, func(now *definition) { decide(now, all) })
}

// change changes the status of a definition. One that is gone stays as it was.
func (e *Engine) change(ctx context.Context, d *definition, by func(*definition)) (*definition, error) {
	out, _, _, err := e.definitions.Update(ctx, "", d.Name, "status", func(current resource.Object) (resource.Object, error) {
		now := current.(*definition)
		if now.UID != d.UID {
			return nil, apierrors.NewNotFound(schema.GroupResource{Group: apiextensionsv1.GroupName, Resource: "customresourcedefinitions"}, d.Name)
		}
		by(now)
		return now, nil
	}, nil, false)
	switch {
	case apierrors.IsNotFound(err):
		return d, nil
	case err != nil:
		return nil, err
	}
	return out.(*definition), nil
}

// serve begins to make the kind of a definition, if it is not there as it should be.
func (e *Engine) serve(ctx context.Context, d *definition) {
	if !apiextensions.True(d, apiextensionsv1.NamesAccepted) && !apiextensions.Established(d) {
		return
	}
	k := e.live[d.Name]
	if k != nil && k.sealed != (d.DeletionTimestamp != nil) {
		k.sealed, e.changed = d.DeletionTimestamp != nil, true
	}
	if k != nil && k.made == madeFrom(d) || e.building[d.Name] {
		return
	}
	e.building[d.Name] = true
	e.running.Go(func() {
		k, err := e.make(ctx, d)
		if err != nil {
			err = fmt.Errorf("serve: %w", err)
		}
		e.send(ctx, result{name: d.Name, kind: k, err: err})
	})
}

// make compiles a definition and reads its objects.
func (e *Engine) make(ctx context.Context, d *definition) (*kind, error) {
	all, err := compile(d, converterOf(d, e.Caller))
	if err != nil {
		return nil, err
	}
	k := &kind{made: madeFrom(d), end: func() {}, sealed: d.DeletionTimestamp != nil}
	var feed *cache.Feed // nil: everybody's
	if _, alone := all.convert.(ask); alone {
		run, cancel := context.WithCancel(ctx)
		k.end, feed = cancel, e.Set.Feed(d.Spec.Group+"/"+d.Status.AcceptedNames.Plural)
		e.running.Go(func() { _ = feed.Run(run) }) // ends with its context alone
	}
	for _, spec := range d.Spec.Versions {
		if !spec.Served && !spec.Storage {
			continue
		}
		r, err := e.Set.Attach(ctx, all.by[spec.Name].kind(d), feed)
		if err != nil {
			e.drop(k)
			return nil, err
		}
		if spec.Storage {
			k.storage = r
		}
		if spec.Served {
			k.served = append(k.served, r)
		}
	}
	return k, nil
}

// drop ends a kind that is not served any more.
func (e *Engine) drop(k *kind) {
	for _, r := range k.served {
		e.Set.Detach(r)
	}
	if k.storage != nil && !slices.Contains(k.served, k.storage) {
		e.Set.Detach(k.storage)
	}
	k.end()
}

// retire takes out the kinds whose definitions are gone.
func (e *Engine) retire(all []*definition) []*kind {
	var gone []*kind
	for name, k := range e.live {
		if !slices.ContainsFunc(all, func(d *definition) bool { return d.Name == name && d.UID == k.made.uid }) {
			delete(e.live, name)
			gone, e.changed = append(gone, k), true
		}
	}
	return gone
}

// publish shows what is live, if that is not shown already.
func (e *Engine) publish() {
	if !e.changed {
		return
	}
	e.changed = false
	var out []Served
	var stored []*registry.Registry
	for _, name := range slices.Sorted(maps.Keys(e.live)) {
		k := e.live[name]
		for _, r := range k.served {
			out = append(out, Served{r, k.sealed})
		}
		stored = append(stored, k.storage)
	}
	e.Set.Name(stored)
	e.Publish(out)
}

// finish does what comes after a kind is served: it is established, or its objects are deleted with it.
func (e *Engine) finish(ctx context.Context, d *definition) error {
	k := e.live[d.Name]
	dying := d.DeletionTimestamp != nil && slices.Contains(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer)
	switch {
	case dying && !e.cleaning[d.Name] && !e.building[d.Name]:
		e.cleaning[d.Name] = true
		e.running.Go(func() { e.send(ctx, result{name: d.Name, cleaned: true, err: e.clean(ctx, d, k)}) })
	case k != nil && !dying && !apiextensions.Established(d) && apiextensions.True(d, apiextensionsv1.NamesAccepted):
		_, err := e.change(ctx, d, establish)
		return err
	}
	return nil
}
