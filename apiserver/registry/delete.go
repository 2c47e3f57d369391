package registry

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/cache"
	"hardway/apiserver/resource"
)

// Delete deletes an object or marks it for deletion: finalizers, a grace period and the kind's own rule keep it. gone
// says that it is deleted, and obj is its last state; else obj is the object as it is marked. obj is read only.
func (r *Registry) Delete(ctx context.Context, namespace, name string, o *metav1.DeleteOptions) (obj resource.Object, gone bool, err error) {
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	if errs := validation.ValidateDeleteOptions(o); len(errs) > 0 {
		return nil, false, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	if r.kind.Scope == resource.Cluster {
		namespace = ""
	}
	d := deletion{r: r, o: o}
	err = r.retry(ctx, namespace, name, func(current *cache.Item) (outcome, error) { return d.attempt(ctx, current, name) })
	if err != nil {
		return nil, false, r.status(err, "delete", name)
	}
	return d.result, d.gone, nil
}

// deletion is one call of Delete.
type deletion struct {
	r      *Registry
	o      *metav1.DeleteOptions
	result resource.Object
	gone   bool
}

func (d *deletion) attempt(ctx context.Context, current *cache.Item, name string) (outcome, error) {
	if current == nil {
		return rests, apierrors.NewNotFound(d.r.gr, name)
	}
	attrs := d.r.attributes(admission.Delete, nil, current, "", d.o.DryRun)
	attrs.Options = d.o
	if err := d.r.admission.Mutate(ctx, attrs); err != nil {
		return rests, err
	}
	if err := d.r.admission.Validate(ctx, attrs); err != nil {
		return rests, err
	}
	if err := d.preconditions(current.Object); err != nil {
		return rests, err
	}
	obj := current.Object.DeepCopyObject().(resource.Object)
	if keep := d.mark(obj, time.Now().UTC().Truncate(time.Second)); !keep {
		return d.remove(ctx, obj, current)
	}
	plain, err := d.r.cache.Codec().Encode(obj)
	if err != nil {
		return rests, err
	}
	d.gone = false
	if slices.Equal(plain, current.Plain) || dryRun(d.o.DryRun) {
		d.result = d.r.stored(obj, current.Rev)
		return rests, nil
	}
	value, err := d.r.cache.Codec().Seal(ctx, current.Key, plain)
	if err != nil {
		return rests, err
	}
	rev, err := d.r.store.Update(ctx, current.Key, value, current.Rev, d.r.ttl(obj))
	if err != nil {
		return done, d.r.raced(ctx, err) // the preconditions are checked again
	}
	d.result = d.r.stored(obj, rev)
	return done, nil
}

// preconditions are those of the options.
func (d *deletion) preconditions(obj resource.Object) error {
	p := d.o.Preconditions
	if p == nil {
		return nil
	}
	gr := schema.GroupResource{Group: d.r.kind.Group, Resource: d.r.kind.Names.Kind}
	if p.UID != nil && *p.UID != obj.GetUID() {
		return apierrors.NewConflict(gr, obj.GetName(), fmt.Errorf("the UID in the precondition (%s) does not match the "+
			"UID in record (%s). The object might have been deleted and then recreated", *p.UID, obj.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != obj.GetResourceVersion() {
		return apierrors.NewConflict(gr, obj.GetName(), fmt.Errorf("the ResourceVersion in the precondition (%s) does not "+
			"match the ResourceVersion in record (%s). The object might have been modified",
			*p.ResourceVersion, obj.GetResourceVersion()))
	}
	return nil
}

// mark changes the object as its deletion demands. keep says that something holds it: a grace period, finalizers, or
// the kind's own rule.
func (d *deletion) mark(obj resource.Object, now time.Time) (keep bool) {
	if d.r.kind.GracePeriod != nil && d.pending(obj, now) {
		return true
	}
	d.collect(obj)
	if grace := obj.GetDeletionGracePeriodSeconds(); grace != nil && *grace > 0 && obj.GetDeletionTimestamp() != nil {
		return true
	}
	held := d.r.kind.OnDelete != nil && d.r.kind.OnDelete(obj)
	markDeleting(obj, 0, now)
	return held || len(obj.GetFinalizers()) > 0
}

// pending begins or shortens a graceful deletion, or says that one is under way that the options do not shorten.
func (d *deletion) pending(obj resource.Object, now time.Time) bool {
	wish := d.o.GracePeriodSeconds
	if wish != nil && *wish < 0 {
		one := int64(1)
		wish = &one
	}
	was, has := obj.GetDeletionTimestamp(), obj.GetDeletionGracePeriodSeconds()
	switch {
	case was == nil:
		if grace := d.r.kind.GracePeriod(obj, wish); grace > 0 {
			markDeleting(obj, grace, now)
		}
		return false
	case has == nil || *has == 0:
		return false
	case wish == nil || *wish >= *has:
		return true
	}
	// The time counts from when the deletion began, but does not lie in the past: what is left then is the shortest
	// grace period, or none if none is wished.
	grace, end := *wish, was.Add(time.Duration(*wish-*has)*time.Second)
	if end.Before(now) {
		grace, end = min(grace, 1), now
	}
	stamp := metav1.NewTime(end)
	obj.SetDeletionTimestamp(&stamp)
	obj.SetDeletionGracePeriodSeconds(&grace)
	return false
}

// markDeleting sets deletionTimestamp, unless there is an earlier one, and deletionGracePeriodSeconds.
func markDeleting(obj resource.Object, grace int64, now time.Time) {
	was := obj.GetDeletionTimestamp()
	if was == nil && obj.GetGeneration() > 0 {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
	end := now.Add(time.Duration(grace) * time.Second)
	if was == nil || was.After(end) {
		stamp := metav1.NewTime(end)
		obj.SetDeletionTimestamp(&stamp)
	}
	obj.SetDeletionGracePeriodSeconds(&grace)
}

// collect sets the finalizers by which the garbage collector learns what to do with dependents. Kinds with a time to
// live have none.
func (d *deletion) collect(obj resource.Object) {
	if d.r.kind.TTL != nil {
		return
	}
	var want string
	orphan, policy := d.o.OrphanDependents, d.o.PropagationPolicy //nolint:staticcheck // SA1019: old clients send it
	switch {
	case orphan != nil && *orphan, policy != nil && *policy == metav1.DeletePropagationOrphan:
		want = metav1.FinalizerOrphanDependents
	case policy != nil && *policy == metav1.DeletePropagationForeground:
		want = metav1.FinalizerDeleteDependents
	case orphan == nil && policy == nil && d.decided(obj):
		return // what is there stays
	}
	if orphan == nil && policy == nil {
		want = metav1.FinalizerOrphanDependents
	}
	has := obj.GetFinalizers()
	finalizers := slices.DeleteFunc(slices.Clone(has), func(f string) bool {
		return f != want && (f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents)
	})
	if want != "" && !slices.Contains(finalizers, want) {
		finalizers = append(finalizers, want)
	}
	if !slices.Equal(finalizers, has) {
		obj.SetFinalizers(finalizers)
	}
}

// decided says that options which name no propagation change nothing: the kind's habit is to delete dependents, or the
// object itself says what is to become of them.
func (d *deletion) decided(obj resource.Object) bool {
	return !d.r.kind.OrphanByDefault || slices.ContainsFunc(obj.GetFinalizers(), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
}

// remove deletes the object.
func (d *deletion) remove(ctx context.Context, obj resource.Object, current *cache.Item) (outcome, error) {
	if dryRun(d.o.DryRun) {
		d.result, d.gone = d.r.stored(obj, current.Rev), true
		return rests, nil
	}
	rev, err := d.r.store.Delete(ctx, current.Key, current.Rev)
	if err != nil {
		return done, d.r.raced(ctx, err)
	}
	d.r.gone(ctx, current.Object)
	d.result, d.gone = d.r.stored(obj, rev), true
	return done, nil
}

// released says that a change has let go of an object that is to be deleted: no finalizer, no grace period and no rule
// of the kind holds it any more.
func (r *Registry) released(obj, old resource.Object) bool {
	if old.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if grace := old.GetDeletionGracePeriodSeconds(); grace != nil && *grace != 0 {
		return false
	}
	return r.kind.OnDelete == nil || !r.kind.OnDelete(obj.DeepCopyObject().(resource.Object))
}

// gone runs what follows a deletion.
func (r *Registry) gone(ctx context.Context, obj resource.Object) {
	if r.hooks.Released != nil {
		r.hooks.Released(ctx, obj)
	}
}

// assign copies the struct behind one object over another of the same type.
func assign(dst, src resource.Object) {
	reflect.ValueOf(dst).Elem().Set(reflect.ValueOf(src).Elem())
}

// collectionWorkers is how many objects of a collection are deleted at once.
const collectionWorkers = 8

// DeleteCollection deletes what q selects and returns what it deleted or marked, as it was. Objects that are gone
// already do not count as errors; the first other error ends it, and what is deleted by then stays deleted.
func (r *Registry) DeleteCollection(ctx context.Context, q Query, o *metav1.DeleteOptions) ([]resource.Object, error) {
	list, err := r.List(ctx, q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *cache.Item)
	var wg sync.WaitGroup
	for range min(collectionWorkers, len(list.Items)) {
		wg.Go(func() {
			for it := range work {
				if _, _, err := r.Delete(ctx, it.Namespace, it.Name, o.DeepCopy()); err != nil && !apierrors.IsNotFound(err) {
					cancel(err)
				}
			}
		})
	}
	out := make([]resource.Object, 0, len(list.Items))
feed:
	for _, it := range list.Items {
		select {
		case work <- it:
			out = append(out, it.Object)
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	wg.Wait()
	if ctx.Err() != nil {
		return nil, r.status(context.Cause(ctx), "deletecollection", "")
	}
	return out, nil
}
