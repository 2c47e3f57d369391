package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/cache"
	"hardway/apiserver/store"
)

// modified is upstream's text of a lost race; clients and people know it.
const modified = "the object has been modified; please apply your changes to the latest version and try again"

// retrySeconds is what clients are told to wait when etcd is in trouble.
const retrySeconds = 2

// status turns an error of the layers below into a Status. A Status passes unchanged.
func (r *Registry) status(err error, verb, name string) error {
	var (
		is       *apierrors.StatusError
		conflict *store.Conflict
		old      *cache.TooOld
		late     *cache.NotFresh
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &is):
		return is
	case errors.Is(err, store.ErrNotFound):
		return apierrors.NewNotFound(r.gr, name)
	case errors.Is(err, store.ErrExists):
		return apierrors.NewAlreadyExists(r.gr, name)
	case errors.As(err, &conflict):
		return apierrors.NewConflict(r.gr, name, errors.New(modified))
	case errors.Is(err, store.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
			"%s %q is too large to be stored: at most %d bytes in protobuf encoding", r.gr, name, store.MaxValue))
	case errors.Is(err, store.ErrNoSpace):
		return noSpace()
	case errors.As(err, &old):
		return apierrors.NewResourceExpired(old.Error())
	case errors.As(err, &late), errors.Is(err, cache.ErrNotReady):
		return apierrors.NewServerTimeout(r.gr, verb, retrySeconds)
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	case errors.Is(err, context.Canceled):
		return apierrors.NewTimeoutError("the request was cancelled", 0)
	}
	return apierrors.NewInternalError(err)
}

// noSpace is the Status for a write that would grow what is full.
func noSpace() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInsufficientStorage, Reason: "InsufficientStorage",
		Message: "etcd's space quota is used up, so nothing may grow: delete objects; their room is free some seconds later",
	}}
}

// tooLarge is the Status for a resourceVersion that the server has not reached.
func tooLarge(want, have int64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", want, have), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version",
	}}
	return err
}
