package cache

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"
	"go.uber.org/zap"

	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// Cache is the objects of one kind. Only its feed changes it.
type Cache struct {
	kind   *resource.Kind
	codec  *store.Codec
	prefix string
	feed   *Feed

	// current is the newest snapshot, nil until the first fill. Its Rev is that of the kind's last change.
	current atomic.Pointer[Snapshot]

	batch  []store.Event // the feed's, between two steps
	counts counts

	mu      sync.Mutex // guards what follows, and the order of events
	removed bool       // no watchers any more
	tree    *btree.BTreeG[*Item]
	damaged map[string]error // replaced, never changed
	history history
	index   index
	kept    keeper
}

// Kind is the cache's kind.
func (c *Cache) Kind() *resource.Kind { return c.kind }

// Codec is the kind's codec.
func (c *Cache) Codec() *store.Codec { return c.codec }

// Prefix is what the kind's keys begin with.
func (c *Cache) Prefix() string { return c.prefix }

// Key is the storage key of an object; namespace is empty for kinds outside namespaces.
func (c *Cache) Key(namespace, name string) string { return key(c.prefix, namespace, name) }

// Get finds an object as the cache has it now, nil when there is none.
func (c *Cache) Get(namespace, name string) (*Item, error) {
	s := c.current.Load()
	if s == nil {
		return nil, ErrNotReady
	}
	return s.Get(namespace, name)
}

// Snapshot is all objects as the cache has them now.
func (c *Cache) Snapshot() (*Snapshot, error) {
	rev := c.feed.rev.Load() // before the snapshot: whatever it does not show came later
	s := c.current.Load()
	if s == nil {
		return nil, ErrNotReady
	}
	return s.asOf(rev), nil
}

// asOf is the same snapshot for a later revision, when it is known that nothing changed in between.
func (s *Snapshot) asOf(rev int64) *Snapshot {
	if rev <= s.Rev {
		return s
	}
	later := *s
	later.Rev = rev
	return &later
}

// At is all objects as they were at a revision, nil when the cache does not know.
func (c *Cache) At(rev int64) *Snapshot {
	now := c.feed.rev.Load()
	s := c.current.Load()
	if s != nil && s.Rev <= rev && rev <= max(now, s.Rev) && rev >= c.feed.horizon.Load() {
		return s.asOf(rev)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept.at(rev)
}

// Keep makes At find a snapshot for some minutes, so that a list can be continued at its revision.
func (c *Cache) Keep(s *Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept.add(s, time.Now())
}

// Filled returns when the cache holds its kind.
func (c *Cache) Filled(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for c.current.Load() == nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// Feed is what fills the cache.
func (c *Cache) Feed() *Feed { return c.feed }

// TooOld says that history does not reach back to a revision; the client must list anew.
type TooOld struct{ Asked, Oldest int64 }

func (e *TooOld) Error() string {
	return fmt.Sprintf("too old resource version: %d (%d)", e.Asked, e.Oldest)
}

// Watch begins to watch, from the cache's present state or after a past revision: *TooOld when history does not reach
// back to it. The caller must Stop the watcher.
func (c *Cache) Watch(sel *Selection, o WatchOptions) (*Watcher, error) {
	w := newWatcher(c, sel, o, time.Now())
	rev := c.feed.rev.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.current.Load()
	if s == nil || c.removed {
		return nil, ErrNotReady
	}
	if o.Initial {
		if err := s.Damaged(sel); err != nil {
			return nil, err
		}
		w.start(s.asOf(rev))
		c.index.add(w)
		return w, nil
	}
	if o.After < c.history.since {
		return nil, &TooOld{Asked: o.After, Oldest: c.history.since}
	}
	w.start(s)
	for i := c.history.after(o.After); i < c.history.len; i++ {
		if !w.offer(c.history.at(i)) {
			return nil, &TooOld{Asked: o.After, Oldest: c.history.at(i).rev}
		}
	}
	c.index.add(w)
	return w, nil
}

func (c *Cache) remove(w *Watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index.remove(w)
}

// offered is the revision up to which every change has been offered to the watchers.
func (c *Cache) offered() int64 { return c.feed.rev.Load() }

// decode makes an item of a stored value.
func (c *Cache) decode(ctx context.Context, kv store.KV) (*Item, error) {
	it, err := NewItem(ctx, c.codec, c.prefix, kv)
	if err != nil {
		c.feed.log.Error("stored object is damaged", zap.String("key", kv.Key),
			zap.String("resourceVersion", strconv.FormatInt(kv.Rev, 10)), zap.Error(err))
		return nil, err
	}
	it.memo = &c.feed.memo
	if c.kind.Form == nil {
		c.feed.fields.share(it.Object)
	}
	return it, nil
}

// fill replaces everything by the objects of a revision. Watchers end, because nobody knows what they missed.
func (c *Cache) fill(items []*Item, damaged map[string]error, rev int64) {
	tree := newTree()
	for _, it := range items {
		tree.Load(it)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return
	}
	c.tree, c.damaged = tree, damaged
	c.history.reset(rev)
	c.kept = keeper{}
	c.index.all(func(w *Watcher) { w.close() })
	c.index = index{}
	c.publish(rev)
	c.counts.fills.Add(1)
}

// publish makes the tree's present state the current snapshot. The lock is held.
func (c *Cache) publish(rev int64) {
	c.current.Store(&Snapshot{Rev: rev, prefix: c.prefix, tree: c.tree.IsoCopy(), damaged: c.damaged})
}

// apply takes the batch that the feed has collected.
func (c *Cache) apply(ctx context.Context, now time.Time) {
	c.counts.received.Add(int64(len(c.batch)))
	items := make([]*Item, len(c.batch))
	errs := make([]error, len(c.batch))
	for i, e := range c.batch {
		if !e.Deleted {
			items[i], errs[i] = c.decode(ctx, e.KV)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return
	}
	last := c.current.Load().Rev
	for i, e := range c.batch {
		if e.Rev <= c.current.Load().Rev {
			continue // the fill has shown it
		}
		last = e.Rev
		c.note(e.Key, errs[i])
		c.change(&change{rev: e.Rev, when: now, new: items[i]}, e.Key)
	}
	c.publish(last)
	clear(c.batch)
	c.batch = c.batch[:0]
}

// change brings one change into the tree, the history and to the watchers. The lock is held.
func (c *Cache) change(ch *change, key string) {
	if ch.new != nil {
		ch.old, _ = c.tree.Set(ch.new)
	} else {
		ch.old, _ = c.tree.Delete(&Item{Key: key})
	}
	if ch.old == nil && ch.new == nil {
		return
	}
	c.history.add(ch)
	var finished []*Watcher
	c.index.each(ch, func(w *Watcher) {
		if !w.offer(ch) {
			finished = append(finished, w)
		}
	})
	for _, w := range finished {
		c.index.remove(w)
	}
}

// note remembers that a key is damaged, or no longer. The lock is held.
func (c *Cache) note(key string, err error) {
	if err == nil && c.damaged[key] == nil {
		return
	}
	damaged := maps.Clone(c.damaged)
	if damaged == nil {
		damaged = map[string]error{}
	}
	if err != nil {
		damaged[key] = err
	} else {
		delete(damaged, key)
	}
	c.damaged = damaged
}
