package cache

import (
	"context"
	"time"

	"go.uber.org/zap"

	"hardway/apiserver/store"
)

// recallMost is how many revisions before its start a feed asks etcd for.
const recallMost = 5000

// recall gives the caches, filled at a revision, the history from before: then clients resume their watches where they
// were when this server stopped, or another one did, and none of them has to list anew. It runs beside everything else;
// without it nothing is wrong.
func (f *Feed) recall(ctx context.Context, rev int64) {
	begin := time.Now()
	by := map[*Cache][]*change{}
	last := map[*Cache]map[string]*Item{} // by key, what the latest change left there
	objects := 0
	since, err := f.store.Recall(ctx, f.store.Prefix(""), rev-recallMost+1, rev, func(p store.Past) {
		for _, c := range f.cachesOf(p.Key) {
			if last[c] == nil {
				last[c] = map[string]*Item{}
			}
			by[c] = append(by[c], c.recalled(ctx, &p, last[c], begin))
			objects++
		}
	})
	if err != nil {
		if ctx.Err() == nil {
			f.log.Warn("recent history could not be recalled: clients will list anew", zap.Error(err))
		}
		return
	}
	f.mu.Lock()
	all := f.all()
	f.mu.Unlock()
	for _, c := range all {
		c.remember(by[c], since, rev)
	}
	f.log.Debug("history recalled", zap.Int("changes", objects), zap.Int64("since", since), zap.Duration("took", time.Since(begin)))
}

// recalled makes a change of the past. Items are shared with the changes before and after, and with the present.
func (c *Cache) recalled(ctx context.Context, p *store.Past, last map[string]*Item, now time.Time) *change {
	ch := &change{rev: p.Rev, when: now}
	if p.Before.Rev > 0 {
		if ch.old = last[p.Key]; ch.old == nil {
			ch.old, _ = c.decode(ctx, p.Before) // damaged: as if it had not been there, as it was when it happened
		}
	}
	if !p.Deleted {
		if is := c.presentAt(p.KV); is != nil {
			ch.new = is
		} else {
			ch.new, _ = c.decode(ctx, p.KV)
		}
	}
	last[p.Key] = ch.new
	return ch
}

// presentAt is the object under a key if it still is as it was then.
func (c *Cache) presentAt(kv store.KV) *Item {
	s := c.current.Load()
	if s == nil {
		return nil
	}
	if it, _ := s.tree.Get(&Item{Key: kv.Key}); it != nil && it.Rev == kv.Rev {
		return it
	}
	return nil
}

// remember puts changes before those in the history, if they join: if it still begins where the cache was filled.
func (c *Cache) remember(past []*change, since, filled int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.history.since != filled || since >= filled {
		return
	}
	c.history.prepend(past, since)
}

// Recalled waits for a recall that is under way, and says whether there was one.
func (f *Feed) Recalled(ctx context.Context) bool {
	done := f.recalling.Load()
	if done == nil {
		return false
	}
	select {
	case <-*done:
		return false
	default:
	}
	select {
	case <-*done:
		return true
	case <-ctx.Done():
		return false
	}
}
