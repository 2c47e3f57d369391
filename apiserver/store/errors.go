package store

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// What a caller can expect and handle.
var (
	ErrNotFound  = errors.New("key not found")
	ErrExists    = errors.New("key exists")
	ErrCompacted = errors.New("revision has been compacted")
	ErrFuture    = errors.New("revision is in the future")
	ErrTooLarge  = errors.New("value is too large")
	ErrNoSpace   = errors.New("etcd's space quota is used up")
)

// Conflict says that a key is not at the revision that the writer expected.
type Conflict struct {
	Current KV // what is there now
}

func (c *Conflict) Error() string {
	return fmt.Sprintf("%s was changed at revision %d", c.Current.Key, c.Current.Rev)
}

// typed replaces etcd's errors by those of this package where there is one.
func typed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrCompacted):
		return ErrCompacted
	case errors.Is(err, rpctypes.ErrFutureRev):
		return ErrFuture
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		return ErrTooLarge
	case errors.Is(err, rpctypes.ErrNoSpace):
		return ErrNoSpace
	}
	return err
}

// expected says that an error is an answer, not etcd's trouble.
func expected(err error) bool {
	var conflict *Conflict
	return errors.As(err, &conflict) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) || errors.Is(err, ErrCompacted) || errors.Is(err, ErrFuture)
}
