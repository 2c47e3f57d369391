package csi

import (
	"context"
	"sync"
)

// keyed is a lock for each of many keys. The zero value is ready.
type keyed struct {
	mu   sync.Mutex // guards held
	held map[string]*holder
}

// holder is a key that is held or waited for.
type holder struct {
	token chan struct{}
	users int
}

// lock waits for a key, and no longer than ctx.
func (k *keyed) lock(ctx context.Context, key string) (release func(), err error) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*holder{}
	}
	h := k.held[key]
	if h == nil {
		h = &holder{token: make(chan struct{}, 1)}
		k.held[key] = h
	}
	h.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(k.held, key)
		}
	}
	select {
	case h.token <- struct{}{}:
		return func() { <-h.token; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}
