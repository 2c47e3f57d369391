package cache

import (
	"context"
	"io"
	"iter"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// maxPending bounds the events that wait for one watcher. One that lets more pile up is cut off: its client resumes
// from the last event that it got.
const maxPending = 10_000

// initialBatch is how many initial events Next returns at once.
const initialBatch = 500

// bookmarkEvery is the time between bookmarks; one more is sent bookmarkBeforeEnd before a watch times out.
const (
	bookmarkEvery     = time.Minute
	bookmarkBeforeEnd = 2 * time.Second
)

// WatchOptions say what a watcher gets beside the changes after its revision.
type WatchOptions struct {
	// After is the revision after which changes are wanted. Ignored with Initial.
	After int64
	// Initial asks for the present objects as ADDED events first.
	Initial bool
	// InitialEnd asks for a bookmark when they are all sent.
	InitialEnd bool
	// Bookmarks asks for one about every minute, and one before the end.
	Bookmarks bool
	// Timeout ends the watch; 0: never.
	Timeout time.Duration
}

// Watcher is one watch of one kind. Next and Stop belong to one goroutine.
type Watcher struct {
	cache *Cache
	sel   *Selection
	opts  WatchOptions
	after int64 // changes up to this one are not wanted

	wake  chan struct{} // holds one token when there may be something new
	spare []Event       // the batch that the caller had last

	// Initial objects still to send.
	initial     func() (*Item, bool)
	initialStop func()
	initialRev  int64

	end, bookmark time.Time // zero: never

	mu      sync.Mutex
	pending []Event
	err     error // set once; no further events after it
}

func newWatcher(c *Cache, sel *Selection, o WatchOptions, now time.Time) *Watcher {
	w := &Watcher{cache: c, sel: sel, opts: o, wake: make(chan struct{}, 1)}
	if o.Timeout > 0 {
		w.end = now.Add(o.Timeout)
	}
	if o.Bookmarks {
		w.planBookmark(now)
	}
	return w
}

// start sets where the watcher begins in a snapshot.
func (w *Watcher) start(s *Snapshot) {
	if !w.opts.Initial {
		w.after = w.opts.After
		return
	}
	w.after, w.initialRev = s.Rev, s.Rev
	w.initial, w.initialStop = iter.Pull(s.All(w.sel, ""))
}

// offer gives the watcher a change. It never blocks; false means that the watcher is finished.
func (w *Watcher) offer(c *change) bool {
	if c.rev <= w.after {
		return true
	}
	e, ok := c.seenBy(w.sel)
	if !ok {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return false
	}
	if len(w.pending) >= maxPending {
		w.finish(io.EOF)
		w.pending = nil
		w.cache.counts.cut.Add(1)
		return false
	}
	w.cache.counts.delivered.Add(1)
	w.pending = append(w.pending, e)
	if len(w.pending) == 1 {
		w.signal()
	}
	return true
}

// finish ends the watch with an error. The lock is held.
func (w *Watcher) finish(err error) {
	if w.err == nil {
		w.err = err
		w.signal()
	}
}

func (w *Watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Next waits for events and returns all that are there, so that the caller can write them all and flush once. The
// slice is the caller's until the next call. After the last event it returns an error: io.EOF for an end after which
// the client just resumes (timeout, too slow, the server stops), ctx's error, or a Status for the client.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) {
	if w.initial != nil {
		if batch := w.nextInitial(); len(batch) > 0 {
			return batch, nil
		}
	}
	for {
		now := time.Now()
		if !w.end.IsZero() && !now.Before(w.end) {
			return nil, io.EOF // even in the midst of events: the client resumes after the last one
		}
		// Read before looking for events: everything up to it has been offered.
		rev := w.cache.offered()
		batch, err := w.take()
		if len(batch) > 0 {
			return batch, nil
		}
		if err != nil {
			return nil, err
		}
		if !w.bookmark.IsZero() && !now.Before(w.bookmark) {
			w.planBookmark(now)
			if rev = max(rev, w.after); rev > 0 {
				return append(w.spare[:0], Event{Type: watch.Bookmark, Rev: rev}), nil
			}
		}
		if err := w.wait(ctx, now); err != nil {
			return nil, err
		}
	}
}

// wait returns when there may be events, or when it is time for a bookmark or the end.
func (w *Watcher) wait(ctx context.Context, now time.Time) error {
	var alarm <-chan time.Time
	if at := earlier(w.bookmark, w.end); !at.IsZero() {
		timer := time.NewTimer(at.Sub(now))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-w.wake:
	case <-alarm:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// planBookmark sets the time of the next bookmark: in a minute, or shortly before the end.
func (w *Watcher) planBookmark(now time.Time) {
	w.bookmark = now.Add(bookmarkEvery)
	if w.end.IsZero() {
		return
	}
	last := w.end.Add(-bookmarkBeforeEnd)
	switch {
	case last.After(now) && last.Before(w.bookmark):
		w.bookmark = last
	case !last.After(now):
		w.bookmark = time.Time{}
	}
}

// take returns the pending events, and the error once there are none.
func (w *Watcher) take() ([]Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		return nil, w.err
	}
	batch := w.pending
	clear(w.spare)
	w.pending = w.spare[:0]
	w.spare = batch
	if cap(batch) > 4*initialBatch {
		w.spare = nil // a rare burst: do not keep so much
	}
	return batch, nil
}

func (w *Watcher) nextInitial() []Event {
	batch := make([]Event, 0, initialBatch)
	for len(batch) < initialBatch {
		it, ok := w.initial()
		if !ok {
			w.initialStop()
			w.initial = nil
			if w.opts.InitialEnd {
				batch = append(batch, Event{Type: watch.Bookmark, Rev: w.initialRev, InitialEnd: true})
			}
			return batch
		}
		batch = append(batch, Event{Type: watch.Added, Item: it, Rev: it.Rev})
	}
	return batch
}

// close ends the watch from the cache's side; pending events are still delivered.
func (w *Watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finish(io.EOF)
}

// Stop ends the watch. It may be called more than once.
func (w *Watcher) Stop() {
	w.cache.remove(w)
	if w.initial != nil {
		w.initialStop()
		w.initial = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finish(io.EOF)
	w.pending = nil
}
