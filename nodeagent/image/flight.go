package image

import (
	"context"
	"sync"
)

// flights lets several callers share one piece of work. The work goes on as long as anybody waits for it.
type flights[T any] struct {
	mu    sync.Mutex // guards calls and the waiters in it
	calls map[string]*flight[T]
}

type flight[T any] struct {
	done    chan struct{} // closed when value and err are set
	cancel  context.CancelFunc
	waiters int
	value   T
	err     error
}

// do runs work under key, or waits for the run that is under way.
func (f *flights[T]) do(ctx context.Context, key string, work func(context.Context) (T, error)) (T, error) {
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[string]*flight[T]{}
	}
	c, ok := f.calls[key]
	if !ok {
		runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		c = &flight[T]{done: make(chan struct{}), cancel: cancel}
		f.calls[key] = c
		go func() {
			c.value, c.err = work(runCtx)
			f.mu.Lock()
			if f.calls[key] == c {
				delete(f.calls, key)
			}
			f.mu.Unlock()
			cancel()
			close(c.done)
		}()
	}
	c.waiters++
	f.mu.Unlock()

	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.waiters--; c.waiters == 0 {
		c.cancel()
		if f.calls[key] == c {
			delete(f.calls, key) // who comes next starts afresh
		}
	}
	var zero T
	return zero, ctx.Err()
}

// busy says whether work is under way for key.
func (f *flights[T]) busy(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.calls[key]
	return ok
}
