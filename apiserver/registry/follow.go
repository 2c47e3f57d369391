package registry

import (
	"context"
	"errors"
	"io"

	"k8s.io/apimachinery/pkg/watch"

	"hardway/apiserver/resource"
)

// Follow tells the server's own parts about a kind's objects: changed is called for every object that is there, then
// synced, then changed for every change, until ctx ends. Old is nil for an object that is new, now for one that is gone.
// All calls come from one goroutine, and soon after the write; the objects are shared: read only. A watch that was cut
// is begun again, and only what differs is told. Nil functions are not called.
func (r *Registry) Follow(ctx context.Context, changed func(old, now resource.Object), synced func()) error {
	f := follower{r: r, changed: changed, synced: synced, known: map[string]resource.Object{}}
	for ctx.Err() == nil {
		if err := f.watch(ctx); err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// follower remembers what it has told.
type follower struct {
	r       *Registry
	changed func(old, now resource.Object)
	synced  func()
	known   map[string]resource.Object
}

// watch is one watch, from the present objects on.
func (f *follower) watch(ctx context.Context) error {
	yes := true
	w, err := f.r.Watch(ctx, Query{SendInitialEvents: &yes, Bookmarks: true, Match: "NotOlderThan", ResourceVersion: "0"})
	if err != nil {
		return err
	}
	defer w.Stop()
	seen := map[string]bool{} // nil once the present objects are all told
	for {
		events, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range events {
			switch {
			case e.Type == watch.Bookmark:
				if e.InitialEnd {
					f.forget(seen)
					seen = nil
				}
			case e.Type == watch.Deleted:
				f.tell(e.Item.Key, nil)
			default:
				if seen != nil {
					seen[e.Item.Key] = true
				}
				f.tell(e.Item.Key, e.Item.Object)
			}
		}
	}
}

// forget tells about the objects that have vanished while nobody watched, and that all are told.
func (f *follower) forget(seen map[string]bool) {
	for key := range f.known {
		if !seen[key] {
			f.tell(key, nil)
		}
	}
	if f.synced != nil {
		f.synced()
		f.synced = nil
	}
}

func (f *follower) tell(key string, now resource.Object) {
	old := f.known[key]
	switch {
	case now == nil && old == nil, now != nil && old != nil && now.GetResourceVersion() == old.GetResourceVersion():
		return
	case now == nil:
		delete(f.known, key)
	default:
		f.known[key] = now
	}
	if f.changed != nil {
		f.changed(old, now)
	}
}
