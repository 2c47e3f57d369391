package registry

import (
	"context"
	"errors"

	"hardway/apiserver/cache"
)

// Watch is a running watch: see cache.Watcher.
type Watch = cache.Watcher

// Watch begins to watch what q selects: after q's resourceVersion, or, with none or "0", with the present objects as
// ADDED events first. SendInitialEvents asks for them, or not, in so many words; the bookmark that ends them comes if
// Bookmarks are asked for. The caller must Stop the watch.
func (r *Registry) Watch(ctx context.Context, q Query) (*Watch, error) {
	if err := q.check(true); err != nil {
		return nil, err
	}
	sel, err := r.selection(q)
	if err != nil {
		return nil, err
	}
	rev, err := q.revision()
	if err != nil {
		return nil, err
	}
	o := cache.WatchOptions{After: rev, Bookmarks: q.Bookmarks, Timeout: q.Timeout}
	switch {
	case q.SendInitialEvents == nil:
		o.Initial = rev == 0
	case *q.SendInitialEvents:
		o.Initial, o.InitialEnd = true, q.Bookmarks
	}
	if err := r.ready(ctx, q.ResourceVersion, rev, &o); err != nil {
		return nil, r.status(err, "watch", "")
	}
	w, err := r.cache.Watch(sel, o)
	var old *cache.TooOld
	if errors.As(err, &old) && r.cache.Feed().Recalled(ctx) {
		w, err = r.cache.Watch(sel, o)
	}
	if err != nil {
		return nil, r.status(err, "watch", "")
	}
	return w, nil
}

// ready waits until the cache can begin the watch.
func (r *Registry) ready(ctx context.Context, asked string, rev int64, o *cache.WatchOptions) error {
	switch {
	case asked == "":
		now, err := r.cache.Feed().Fresh(ctx)
		var late *cache.NotFresh
		if errors.As(err, &late) && o.Initial {
			return tooLarge(late.Want, late.Have)
		}
		if !o.Initial {
			o.After = now
		}
		return err
	case rev == 0:
		if !o.Initial {
			s, err := r.cache.Snapshot()
			if err != nil {
				return err
			}
			o.After = s.Rev
		}
		return nil
	case o.Initial:
		return r.wait(ctx, rev)
	}
	return nil
}
