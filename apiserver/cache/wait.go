package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// freshTimeout bounds the wait for a revision; afterwards the reader asks etcd itself. Upstream's is the same.
const freshTimeout = 3 * time.Second

// progressAfter is how long a reader waits for a revision before the feed asks etcd how far its watch has come: the
// store's revision also moves by keys that the watch does not see.
const progressAfter = 2 * time.Millisecond

// waiters are readers waiting for a revision.
type waiters struct {
	mu   sync.Mutex
	list []waiter
}

type waiter struct {
	rev  int64
	done chan struct{}
}

// wake lets those go who wait for rev or less.
func (ws *waiters) wake(rev int64) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.list = slices.DeleteFunc(ws.list, func(w waiter) bool {
		if w.rev > rev {
			return false
		}
		close(w.done)
		return true
	})
}

// NotFresh says that the cache did not reach a revision in time.
type NotFresh struct{ Want, Have int64 }

func (e *NotFresh) Error() string {
	return fmt.Sprintf("the watch cache is at resource version %d and did not reach %d in time", e.Have, e.Want)
}

// Wait returns when everything up to a revision is in the caches; *NotFresh when that takes too long.
func (f *Feed) Wait(ctx context.Context, rev int64) error {
	if f.rev.Load() >= rev {
		return nil
	}
	w := waiter{rev, make(chan struct{})}
	f.wait.mu.Lock()
	if f.rev.Load() >= rev {
		f.wait.mu.Unlock()
		return nil
	}
	f.wait.list = append(f.wait.list, w)
	f.wait.mu.Unlock()
	defer f.forget(w)

	deadline := time.NewTimer(freshTimeout)
	defer deadline.Stop()
	nudge := time.NewTimer(progressAfter)
	defer nudge.Stop()
	for every := progressAfter; ; {
		select {
		case <-w.done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return &NotFresh{Want: rev, Have: f.rev.Load()}
		case <-nudge.C:
			f.nudge(time.Now())
			every = min(2*every, 200*time.Millisecond)
			nudge.Reset(every)
		}
	}
}

// nudge asks etcd how far the watch has come, once for all who wait.
func (f *Feed) nudge(now time.Time) {
	last := f.nudged.Load()
	watch := f.watch.Load()
	if watch == nil || now.UnixNano()-last < int64(progressAfter) || !f.nudged.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	// An error means that the watch is ending, which the feed notices too.
	_ = watch.Progress()
}

func (f *Feed) forget(w waiter) {
	f.wait.mu.Lock()
	defer f.wait.mu.Unlock()
	f.wait.list = slices.DeleteFunc(f.wait.list, func(o waiter) bool { return o.done == w.done })
}

// Fresh waits until the caches show every write that was acknowledged before the call, and returns that revision.
func (f *Feed) Fresh(ctx context.Context) (int64, error) {
	rev, err := f.store.Revision(ctx)
	if err != nil {
		return 0, err
	}
	return rev, f.Wait(ctx, rev)
}
