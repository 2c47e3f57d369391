package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/admission"
	"hardway/apiserver/cache"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// Update changes an object. change gets a private copy of the current object and returns the wished one, which may be
// that copy: it is called again whenever the object was changed meanwhile, and must return an object that is not yet
// in use each time. A wished object with another resourceVersion
// than the current one's is a Conflict; one without any overwrites, where the kind allows that, and is refused
// otherwise; so an object made from current, as by a patch, keeps current's resourceVersion. sub is "" for the object
// itself, "status", or the name of a subresource, whose change is taken as it is.
//
// When the object is absent, the kind allows it or createIfAbsent says so, change gets an empty object with nothing but
// name and namespace, and the result is created. An update that removes the last finalizer of an object marked for
// deletion deletes it. The result may be shared: read only.
func (r *Registry) Update(ctx context.Context, namespace, name, sub string,
	change func(current resource.Object) (resource.Object, error), o *metav1.UpdateOptions, createIfAbsent bool,
) (obj resource.Object, created bool, warnings []string, err error) {
	if o == nil {
		o = &metav1.UpdateOptions{}
	}
	u := update{
		r: r, namespace: namespace, name: name, sub: sub, change: change, o: o,
		mayCreate: sub == "" && (createIfAbsent || r.kind.AllowCreateOnUpdate),
	}
	if r.kind.Scope == resource.Cluster {
		u.namespace = ""
	}
	err = r.retry(ctx, u.namespace, name, func(current *cache.Item) (outcome, error) { return u.attempt(ctx, current) })
	if err != nil {
		return nil, false, nil, r.status(err, "update", name)
	}
	return u.result, u.created, u.warnings, nil
}

// outcome says what an attempt rests on.
type outcome int

const (
	done  outcome = iota // etcd has answered, whatever it was
	rests                // etcd was not asked: the outcome holds if the current object is current
)

// errRaced says that the object changed meanwhile, and carries what is there now (nil: nothing).
type errRaced struct{ now *cache.Item }

func (*errRaced) Error() string { return "the object was changed meanwhile" }

// retry calls attempt with the object as the cache has it, and again with what is there as long as somebody else was
// faster. An outcome or an error that rests on the cached object is accepted only once the cache is known to be fresh.
func (r *Registry) retry(ctx context.Context, namespace, name string, attempt func(*cache.Item) (outcome, error)) error {
	// Where the store's revision costs nothing, being sure first is cheaper than a write that turns out to be raced.
	sure, lookup := r.store.KnowsRevision(), r.cache.Get
	if sure {
		lookup = func(namespace, name string) (*cache.Item, error) { return r.fresh(ctx, namespace, name) }
	}
	current, err := lookup(namespace, name)
	if err != nil {
		return err
	}
	for {
		what, err := attempt(current)
		var raced *errRaced
		switch {
		case errors.As(err, &raced):
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			current, sure = raced.now, true
			continue
		case sure || what == done:
			return err
		}
		now, freshErr := r.fresh(ctx, namespace, name)
		if freshErr != nil {
			return freshErr
		}
		if revision(now) == revision(current) {
			return err
		}
		current, sure = now, true
	}
}

func revision(it *cache.Item) int64 {
	if it == nil {
		return 0
	}
	return it.Rev
}

// raced turns the store's refusal of a write into errRaced.
func (r *Registry) raced(ctx context.Context, err error) error {
	var conflict *store.Conflict
	switch {
	case errors.As(err, &conflict):
		now, err := r.item(ctx, conflict.Current)
		if err != nil {
			return err
		}
		return &errRaced{now}
	case errors.Is(err, store.ErrNotFound):
		return &errRaced{nil}
	}
	return err
}

// update is one call of Update.
type update struct {
	r               *Registry
	namespace, name string
	sub             string
	change          func(resource.Object) (resource.Object, error)
	o               *metav1.UpdateOptions
	mayCreate       bool

	result   resource.Object
	created  bool
	warnings []string
}

func (u *update) attempt(ctx context.Context, current *cache.Item) (outcome, error) {
	if current == nil {
		return u.create(ctx)
	}
	obj, err := u.change(current.Object.DeepCopyObject().(resource.Object))
	if err != nil {
		return rests, err
	}
	if err := u.identify(obj, current); err != nil {
		return rests, err
	}
	reserved, err := u.prepare(ctx, obj, current)
	if err != nil {
		return rests, err
	}
	what, written, err := u.write(ctx, obj, current)
	reserved.finish(written && err == nil)
	if err == nil && u.warnings == nil {
		u.warnings = u.r.kind.Warnings(obj, current.Object)
	}
	return what, err
}

// create makes an object that is absent, if that is allowed.
func (u *update) create(ctx context.Context) (outcome, error) {
	if !u.mayCreate {
		return rests, apierrors.NewNotFound(u.r.gr, u.name)
	}
	empty := u.r.kind.New()
	empty.SetName(u.name)
	empty.SetNamespace(u.namespace)
	obj, err := u.change(empty)
	if err == nil {
		err = sameName(obj, u.name)
	}
	if err == nil {
		err = u.r.placed(obj, u.namespace)
	}
	if err != nil {
		return rests, err
	}
	obj.SetResourceVersion("")
	options := &metav1.CreateOptions{
		DryRun: u.o.DryRun, FieldManager: u.o.FieldManager, FieldValidation: u.o.FieldValidation,
	}
	u.result, u.warnings, err = u.r.create(ctx, obj, options)
	if errors.Is(err, store.ErrExists) {
		now, err := u.r.fresh(ctx, u.namespace, u.name)
		if err != nil {
			return done, err
		}
		return done, &errRaced{now}
	}
	u.created = err == nil
	return done, err
}

// identify checks that the wished object is the current one, and that it is based on its current state.
func (u *update) identify(obj resource.Object, current *cache.Item) error {
	if err := sameName(obj, u.name); err != nil {
		return err
	}
	if err := u.r.placed(obj, u.namespace); err != nil {
		return err
	}
	have := current.Object
	if uid := obj.GetUID(); uid != "" && uid != have.GetUID() {
		return apierrors.NewConflict(u.r.gr, u.name, fmt.Errorf(
			"Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, have.GetUID()))
	}
	switch version := obj.GetResourceVersion(); {
	case version == have.GetResourceVersion():
		return nil
	case version != "" && version != "0":
		return apierrors.NewConflict(u.r.gr, u.name, errors.New(modified))
	case !u.r.kind.AllowUnconditionalUpdate:
		gk := u.r.kind.GVK().GroupKind()
		gk.Kind = u.r.gr.Resource
		return apierrors.NewInvalid(gk, u.name, field.ErrorList{field.Invalid(
			metadata.Child("resourceVersion"), 0, "must be specified for an update")})
	}
	obj.SetResourceVersion(have.GetResourceVersion())
	return nil
}

// prepare does all that comes before the write: the object is final afterwards.
func (u *update) prepare(ctx context.Context, obj resource.Object, current *cache.Item) (reserved Reservation, err error) {
	kind, old := u.r.kind, current.Object
	u.keep(obj, old)
	attrs := u.r.attributes(admission.Update, obj, current, u.sub, u.o.DryRun)
	attrs.Options = u.o
	if err := u.r.admission.Mutate(ctx, attrs); err != nil {
		return reserved, err
	}
	kind.Default(obj) // also what admission added
	if u.sub == "" {
		kind.Prepare(ctx, obj, old)
	}
	if kind.HasGeneration && u.sub != "status" && kind.SpecChanged(obj, old) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
	if u.r.hooks.Reserve != nil && u.sub != "status" {
		if reserved, err = u.r.hooks.Reserve(ctx, obj, old, dryRun(u.o.DryRun)); err != nil {
			return reserved, err
		}
		kind.Default(obj)
	}
	if err = u.r.checkChange(obj, old, u.sub); err == nil {
		err = u.r.admission.Validate(ctx, attrs)
	}
	if err != nil {
		reserved.finish(false)
		return Reservation{}, err
	}
	return reserved, nil
}

// keep restores what this way of updating may not change.
func (u *update) keep(obj, old resource.Object) {
	if u.r.kind.HasStatus {
		switch u.sub {
		case "":
			u.r.kind.SetStatus(obj, old)
		case "status":
			u.keepAllButStatus(obj, old)
		}
	}
	obj.SetGeneration(old.GetGeneration())
	obj.SetUID(old.GetUID())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetSelfLink("")
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
}

// keepAllButStatus makes obj the old object with the status of obj, and with those metadata that the status
// subresource may change: labels, annotations, finalizers, managed fields.
func (u *update) keepAllButStatus(obj, old resource.Object) {
	wished := obj.DeepCopyObject().(resource.Object)
	assign(obj, old.DeepCopyObject().(resource.Object))
	u.r.kind.SetStatus(obj, wished)
	obj.SetLabels(wished.GetLabels())
	obj.SetAnnotations(wished.GetAnnotations())
	obj.SetFinalizers(wished.GetFinalizers())
	obj.SetManagedFields(wished.GetManagedFields())
}

// write stores the object, or deletes it if the change has let go of the last that held it, or does nothing if
// nothing changed. written says that the outcome is in etcd.
func (u *update) write(ctx context.Context, obj resource.Object, current *cache.Item,
) (what outcome, written bool, err error) {
	if u.r.released(obj, current.Object) {
		what, err := u.remove(ctx, obj, current)
		return what, err == nil && !dryRun(u.o.DryRun), err
	}
	plain, err := u.r.encodeChange(obj, current)
	if err != nil {
		return rests, false, err
	}
	if bytes.Equal(plain, current.Plain) && !u.r.stale(ctx, current) {
		u.result = current.Object
		return rests, true, nil
	}
	if dryRun(u.o.DryRun) {
		u.result = u.r.stored(obj, current.Rev)
		return rests, false, nil
	}
	if err := u.r.store.MayGrow(len(current.Plain), len(plain)); err != nil {
		return done, false, err
	}
	value, err := u.r.cache.Codec().Seal(ctx, current.Key, plain)
	if err != nil {
		return rests, false, err
	}
	rev, err := u.r.store.Update(ctx, current.Key, value, current.Rev, u.r.ttl(obj))
	if err != nil {
		return done, false, u.r.raced(ctx, err)
	}
	u.result = u.r.stored(obj, rev)
	return done, true, nil
}

// stale says that the stored form should be renewed though it says the same. Once the keys have changed, what the cache
// knows about that may be wrong.
func (r *Registry) stale(ctx context.Context, it *cache.Item) bool {
	if t, ok := r.cache.Codec().Transformer.(store.Reloader); it.Stale || !ok || !t.Reloaded() {
		return it.Stale
	}
	kv, _, err := r.store.Get(ctx, it.Key)
	if err != nil || kv.Rev != it.Rev {
		return false // somebody is writing it right now
	}
	_, stale, err := r.cache.Codec().Open(ctx, kv.Key, kv.Value)
	return err == nil && stale
}

// remove deletes an object whose last finalizer has gone.
func (u *update) remove(ctx context.Context, obj resource.Object, current *cache.Item) (outcome, error) {
	if dryRun(u.o.DryRun) {
		u.result = u.r.stored(obj, current.Rev)
		return rests, nil
	}
	rev, err := u.r.store.Delete(ctx, current.Key, current.Rev)
	if err != nil {
		return done, u.r.raced(ctx, err)
	}
	u.r.gone(ctx, current.Object)
	u.result = u.r.stored(obj, rev)
	return done, nil
}

// encodeChange encodes a changed object. A change of nothing but the times of managed fields is no change.
func (r *Registry) encodeChange(obj resource.Object, current *cache.Item) ([]byte, error) {
	plain, err := r.cache.Codec().Encode(obj)
	if err != nil || bytes.Equal(plain, current.Plain) {
		return plain, err
	}
	mine, theirs := obj.GetManagedFields(), current.Object.GetManagedFields()
	if len(mine) == 0 || !slices.EqualFunc(mine, theirs, sameButTime) {
		return plain, nil
	}
	obj.SetManagedFields(theirs)
	same, err := r.cache.Codec().Encode(obj)
	if err != nil || bytes.Equal(same, current.Plain) {
		return same, err
	}
	obj.SetManagedFields(mine)
	return plain, nil
}

func sameButTime(a, b metav1.ManagedFieldsEntry) bool {
	return a.Manager == b.Manager && a.Operation == b.Operation && a.APIVersion == b.APIVersion &&
		a.FieldsType == b.FieldsType && a.Subresource == b.Subresource && sameFields(a.FieldsV1, b.FieldsV1)
}

func sameFields(a, b *metav1.FieldsV1) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}
