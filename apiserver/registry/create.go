package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/cache"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// Create stores a new object and returns it as stored, with sentences for the Warning header. obj must have its
// defaults; the caller gives it up. The result may be shared: read only.
func (r *Registry) Create(ctx context.Context, obj resource.Object, o *metav1.CreateOptions) (resource.Object, []string, error) {
	if o == nil {
		o = &metav1.CreateOptions{}
	}
	if obj.GetResourceVersion() != "" {
		return nil, nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if err := r.placed(obj, r.requestNamespace(ctx, obj)); err != nil {
		return nil, nil, err
	}
	if obj.GetGenerateName() == "" || obj.GetName() != "" {
		out, warnings, err := r.create(ctx, obj, o)
		return out, warnings, r.status(err, "create", obj.GetName())
	}
	for range generateAttempts {
		attempt := obj.DeepCopyObject().(resource.Object)
		attempt.SetName(generateName(obj.GetGenerateName()))
		out, warnings, err := r.create(ctx, attempt, o)
		if !errors.Is(err, store.ErrExists) && !apierrors.IsAlreadyExists(err) {
			return out, warnings, r.status(err, "create", attempt.GetName())
		}
	}
	return nil, nil, apierrors.NewGenerateNameConflict(r.gr, obj.GetGenerateName(), 1)
}

// create stores an object that has its name. store.ErrExists comes through as it is, so that a generated name can be
// tried anew, unless the object that is there is being deleted.
func (r *Registry) create(ctx context.Context, obj resource.Object, o *metav1.CreateOptions) (resource.Object, []string, error) {
	key, value, reserved, err := r.prepareNew(ctx, obj, o)
	if err != nil {
		return nil, nil, err
	}
	var rev int64
	if dryRun(o.DryRun) {
		rev, err = 0, r.wouldExist(ctx, obj)
	} else {
		rev, err = r.store.Create(ctx, key, value, r.ttl(obj))
	}
	reserved.finish(err == nil && !dryRun(o.DryRun))
	if err != nil {
		return nil, nil, r.takenByDying(ctx, obj, err)
	}
	return r.stored(obj, rev), r.kind.Warnings(obj, nil), nil
}

// prepareNew does all that comes before the write: the object is final afterwards, and value is what to store.
func (r *Registry) prepareNew(ctx context.Context, obj resource.Object, o *metav1.CreateOptions,
) (key string, value []byte, reserved Reservation, err error) {
	born(obj, time.Now())
	obj.SetGeneration(0)
	if r.kind.HasGeneration {
		obj.SetGeneration(1)
	}
	if r.kind.HasStatus && !r.kind.StatusOnCreate {
		r.kind.SetStatus(obj, r.kind.New())
	}
	attrs := r.attributes(admission.Create, obj, nil, "", o.DryRun)
	attrs.Options = o
	if err := r.admission.Mutate(ctx, attrs); err != nil {
		return "", nil, reserved, err
	}
	r.kind.Default(obj) // also what admission added
	r.kind.Prepare(ctx, obj, nil)
	if obj.GetName() == "" {
		return "", nil, reserved, r.checkNew(obj)
	}
	if r.hooks.Reserve != nil {
		if reserved, err = r.hooks.Reserve(ctx, obj, nil, dryRun(o.DryRun)); err != nil {
			return "", nil, reserved, err
		}
		r.kind.Default(obj)
	}
	if err = r.checkNew(obj); err == nil {
		err = r.admission.Validate(ctx, attrs)
	}
	if err == nil {
		key = r.cache.Key(obj.GetNamespace(), obj.GetName())
		value, err = r.seal(ctx, key, obj)
	}
	if err != nil {
		reserved.finish(false)
		return "", nil, Reservation{}, err
	}
	return key, value, reserved, nil
}

// seal encodes an object for storage.
func (r *Registry) seal(ctx context.Context, key string, obj resource.Object) ([]byte, error) {
	plain, err := r.cache.Codec().Encode(obj)
	if err != nil {
		return nil, err
	}
	return r.cache.Codec().Seal(ctx, key, plain)
}

// stored completes an object that was written: it is immutable from here on. Revision 0 means that it was not.
func (r *Registry) stored(obj resource.Object, rev int64) resource.Object {
	obj.SetResourceVersion("")
	if rev > 0 {
		obj.SetResourceVersion(strconv.FormatInt(rev, 10))
	}
	obj.GetObjectKind().SetGroupVersionKind(r.kind.GVK())
	return obj
}

// wouldExist is what a dry run does instead of writing.
func (r *Registry) wouldExist(ctx context.Context, obj resource.Object) error {
	it, err := r.fresh(ctx, obj.GetNamespace(), obj.GetName())
	if err == nil && it != nil {
		err = store.ErrExists
	}
	return err
}

// takenByDying says so when a name is taken by an object that is being deleted.
func (r *Registry) takenByDying(ctx context.Context, obj resource.Object, err error) error {
	if !errors.Is(err, store.ErrExists) {
		return err
	}
	it, getErr := r.fresh(ctx, obj.GetNamespace(), obj.GetName())
	if getErr != nil || it == nil || it.Object.GetDeletionTimestamp() == nil {
		return err
	}
	is := apierrors.NewAlreadyExists(r.gr, obj.GetName())
	is.ErrStatus.Message = fmt.Sprintf("object is being deleted: %s", is.ErrStatus.Message)
	return is
}

func (r *Registry) ttl(obj resource.Object) int64 {
	if r.kind.TTL == nil {
		return 0
	}
	if r.eventTTL > 0 {
		return r.eventTTL
	}
	return r.kind.TTL(obj)
}

// Admit asks the admission chain about an object that is sent to a subresource and stored nowhere.
func (r *Registry) Admit(ctx context.Context, sub string, sent resource.Object) error {
	a := r.attributes(admission.Create, sent, nil, sub, nil)
	if err := r.admission.Mutate(ctx, a); err != nil {
		return err
	}
	return r.admission.Validate(ctx, a)
}

// attributes describe a write to admission.
func (r *Registry) attributes(op admission.Operation, obj resource.Object, old *cache.Item, sub string, dry []string) *admission.Attributes {
	a := &admission.Attributes{Operation: op, Kind: r.kind, Subresource: sub, Object: obj, DryRun: dryRun(dry)}
	if old != nil {
		a.Old, a.Namespace, a.Name = old.Object, old.Namespace, old.Name
	} else {
		a.Namespace, a.Name = obj.GetNamespace(), obj.GetName()
	}
	return a
}
