package slices

import (
	"context"
	"fmt"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"hardway/controllers/control"
	"hardway/controllers/ledger"
	"hardway/shared/client"
)

// Writer carries diffs out. Its book remembers the slices that were created and that the cache does not show yet.
type Writer struct {
	API  *client.API
	Book *ledger.Book
}

// Waiting reports whether the cache still lacks slices that were created for the owner: to plan without them would
// create them twice.
func (w Writer) Waiting(ctx context.Context, owner types.UID, namespace string, shown func(name string) bool) (bool, error) {
	unseen, err := w.Book.Settle(owner, shown, func(name string) (bool, error) {
		_, err := client.EndpointSlices.Get(ctx, w.API, namespace, name)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	}, time.Now())
	if err != nil {
		return false, fmt.Errorf("look for endpoint slices that were created in %s: %w", namespace, err)
	}
	return len(unseen) > 0, nil
}

// Apply writes a diff for the owner: first what is new or changed, then what goes. Updates carry resource versions, so
// that one made from a stale cache is refused.
func (w Writer) Apply(ctx context.Context, owner types.UID, d Diff) error {
	for _, s := range d.Create {
		if err := w.create(ctx, owner, s); err != nil {
			return err
		}
	}
	for _, s := range d.Update {
		if _, err := client.EndpointSlices.Update(ctx, w.API, s); err != nil {
			return fmt.Errorf("update endpoint slice %s/%s: %w", s.Namespace, s.Name, err)
		}
	}
	for _, s := range d.Delete {
		err := client.EndpointSlices.Delete(ctx, w.API, s.Namespace, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
		if control.Gone(err) != nil && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete endpoint slice %s/%s: %w", s.Namespace, s.Name, err)
		}
	}
	return nil
}

func (w Writer) create(ctx context.Context, owner types.UID, s *discoveryv1.EndpointSlice) error {
	s.Name = s.GenerateName + rand.String(5)
	w.Book.Creating(owner, s.Name, "", time.Now())
	_, err := client.EndpointSlices.Create(ctx, w.API, s)
	if err == nil {
		return nil
	}
	if control.Refused(err) {
		w.Book.NotCreated(owner, s.Name)
	}
	if control.Ending(err) {
		return nil
	}
	return fmt.Errorf("create endpoint slice in %s: %w", s.Namespace, err)
}
