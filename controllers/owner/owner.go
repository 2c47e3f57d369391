// Package owner decides which objects belong to a controlling object (a ReplicaSet's pods, a Deployment's ReplicaSets):
// it keeps what it owns and its selector matches, releases what it owns and no longer matches, and adopts matching
// orphans. The decision is pure; Claim carries it out.
package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Verdict is what is to happen to one candidate.
type Verdict int

// The verdicts.
const (
	Ignore  Verdict = iota // it belongs to somebody else, or to nobody and does not match
	Keep                   // owned and matching
	Adopt                  // an orphan that matches
	Release                // owned, no longer matching
)

// Judge says what the owner is to do with a candidate object. An owner that is being deleted adopts and releases
// nothing; a candidate that is being deleted is not adopted.
func Judge(ownerObj, candidate metav1.Object, selector labels.Selector) Verdict {
	matches := selector.Matches(labels.Set(candidate.GetLabels()))
	ref := metav1.GetControllerOfNoCopy(candidate)
	switch {
	case ref != nil && ref.UID != ownerObj.GetUID():
		return Ignore
	case ref != nil && matches:
		return Keep
	case ownerObj.GetDeletionTimestamp() != nil:
		return Ignore
	case ref != nil:
		return Release
	case matches && candidate.GetDeletionTimestamp() == nil && candidate.GetNamespace() == ownerObj.GetNamespace():
		return Adopt
	default:
		return Ignore
	}
}

// Claimer holds what Claim needs to write.
type Claimer struct {
	Owner metav1.Object
	Ref   metav1.OwnerReference // the reference that adopted objects get
	// Fresh reads the owner from the API itself. Adoption needs it: a stale cache must not adopt for an owner that is
	// gone or going.
	Fresh func(ctx context.Context) (metav1.Object, error)
	// Finalizer is put on what is adopted and taken off what is released; "": none.
	Finalizer string
	// Patch applies a strategic merge patch to a candidate.
	Patch func(ctx context.Context, name string, patch []byte) error
}

// Claim returns the candidates that the owner keeps, adopted ones included. A candidate that vanished meanwhile is left
// out silently. All candidates are tried; errors are joined.
func Claim[T metav1.Object](ctx context.Context, c Claimer, selector labels.Selector, candidates []T) ([]T, error) {
	var (
		kept   []T
		errs   []error
		adopts error
		asked  bool
	)
	for _, obj := range candidates {
		switch Judge(c.Owner, obj, selector) {
		case Keep:
			kept = append(kept, obj)
		case Release:
			if err := c.release(ctx, obj); err != nil {
				errs = append(errs, err)
			}
		case Adopt:
			if !asked {
				adopts, asked = c.mayAdopt(ctx), true
			}
			if adopts != nil {
				continue
			}
			adopted, err := c.adopt(ctx, obj)
			if err != nil {
				errs = append(errs, err)
			} else if adopted {
				kept = append(kept, obj)
			}
		}
	}
	return kept, errors.Join(append(errs, adopts)...)
}

func (c Claimer) mayAdopt(ctx context.Context) error {
	fresh, err := c.Fresh(ctx)
	if err != nil {
		return fmt.Errorf("read %s/%s before adopting: %w", c.Owner.GetNamespace(), c.Owner.GetName(), err)
	}
	if fresh.GetUID() != c.Owner.GetUID() {
		return fmt.Errorf("%s/%s is another object by now: uid %s, not %s", c.Owner.GetNamespace(), c.Owner.GetName(), fresh.GetUID(), c.Owner.GetUID())
	}
	if fresh.GetDeletionTimestamp() != nil {
		return fmt.Errorf("%s/%s is being deleted since %v and adopts nothing", c.Owner.GetNamespace(), c.Owner.GetName(), fresh.GetDeletionTimestamp())
	}
	return nil
}

// adopt adds the owner's reference. The object's uid in the patch makes the server refuse when another object took the
// name.
func (c Claimer) adopt(ctx context.Context, obj metav1.Object) (bool, error) {
	meta := map[string]any{"uid": obj.GetUID(), "ownerReferences": []metav1.OwnerReference{c.Ref}}
	if c.Finalizer != "" {
		meta["finalizers"] = []string{c.Finalizer}
	}
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return false, fmt.Errorf("encode adoption of %s/%s: %w", obj.GetNamespace(), obj.GetName(), err)
	}
	err = c.Patch(ctx, obj.GetName(), patch)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("adopt %s/%s: %w", obj.GetNamespace(), obj.GetName(), err)
	}
	return true, nil
}

// release removes the owner's reference.
func (c Claimer) release(ctx context.Context, obj metav1.Object) error {
	meta := map[string]any{"uid": obj.GetUID(), "ownerReferences": []map[string]any{{"$patch": "delete", "uid": c.Owner.GetUID()}}}
	if c.Finalizer != "" {
		meta["$deleteFromPrimitiveList/finalizers"] = []string{c.Finalizer}
	}
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return fmt.Errorf("encode release of %s/%s: %w", obj.GetNamespace(), obj.GetName(), err)
	}
	err = c.Patch(ctx, obj.GetName(), patch)
	switch {
	case err == nil, apierrors.IsNotFound(err), apierrors.IsInvalid(err): // invalid: the reference or the object is already another one
		return nil
	default:
		return fmt.Errorf("release %s/%s: %w", obj.GetNamespace(), obj.GetName(), err)
	}
}

// ControllerUID returns the uid of the object's controller, or "".
func ControllerUID(obj metav1.Object) types.UID {
	if ref := metav1.GetControllerOfNoCopy(obj); ref != nil {
		return ref.UID
	}
	return ""
}

// Selects reports whether a selector that can be read, and is not empty, matches the labels.
func Selects(selector *metav1.LabelSelector, set map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && !s.Empty() && s.Matches(labels.Set(set))
}
