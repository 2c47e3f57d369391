package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// ErrNotReady is what readers get before a cache is filled.
var ErrNotReady = errors.New("the watch cache is not filled yet")

const (
	fillPage   = 1000 // keys per list while filling
	sweepEvery = 30 * time.Second
	// retryEvery is how often a feed of its own tries again what it could not decode.
	retryEvery = 2 * time.Second
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
	// DefaultMemo is how many bytes of encoded objects are remembered by default.
	DefaultMemo = 64 << 20
)

// Options of a Feed. Zero values are useful.
type Options struct {
	MemoBytes int // bound of remembered encodings; default DefaultMemo
	// Within is the storage key below which all kinds of the feed lie; empty: everywhere. A kind whose objects cannot be
	// decoded without asking somebody else has a feed of its own, so that nobody else waits.
	Within string
	Log    *zap.Logger
}

// Feed fills the caches of all kinds of a store, from one watch.
type Feed struct {
	store  *store.Store
	within string
	log    *zap.Logger
	memo   memo
	// fields are the field sets that objects share.
	fields *interner

	// rev is the revision up to which every change is in the caches and with the watchers. Only Run moves it.
	rev    atomic.Int64
	synced chan struct{} // closed after the first fill
	watch  atomic.Pointer[store.Watch]
	wait   waiters
	nudged atomic.Int64 // when etcd was last asked for progress, in ns
	// horizon is what rev was keepAge ago. What is older is asked of etcd, which knows whether it is still there: that a kind
	// has not changed since is no reason to remember a revision for ever.
	horizon atomic.Int64
	// recalling is closed when the history from before the last fill is there, as far as it will be.
	recalling atomic.Pointer[chan struct{}]

	mu     sync.Mutex
	caches map[string][]*Cache // by storage key, such as pods or services/specs; more than one: versions of a kind
	added  []*Cache            // while running, not yet filled
	marks  []mark              // what rev was, oldest first
	more   chan struct{}       // holds a token when there are added ones
}

// NewFeed makes the feed of a store.
func NewFeed(st *store.Store, o Options) *Feed {
	if o.MemoBytes == 0 {
		o.MemoBytes = DefaultMemo
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Feed{
		store: st, within: o.Within, log: o.Log, memo: memo{max: o.MemoBytes}, fields: newInterner(),
		synced: make(chan struct{}), caches: map[string][]*Cache{}, more: make(chan struct{}, 1),
	}
}

// Add makes the cache of a kind. A nil Transformer stores plainly. A kind that is added while the feed runs is filled
// soon; other kinds wait meanwhile.
func (f *Feed) Add(kind *resource.Kind, t store.Transformer) *Cache {
	c := &Cache{kind: kind, codec: store.NewCodec(kind, t), prefix: f.store.Prefix(kind.StorageKey), feed: f}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.caches[kind.StorageKey] = append(f.caches[kind.StorageKey], c)
	f.added = append(f.added, c)
	select {
	case f.more <- struct{}{}:
	default:
	}
	return c
}

// Remove ends a cache and its watchers.
func (f *Feed) Remove(c *Cache) {
	key := c.kind.StorageKey
	f.mu.Lock()
	f.caches[key] = slices.DeleteFunc(slices.Clone(f.caches[key]), func(o *Cache) bool { return o == c })
	if len(f.caches[key]) == 0 {
		delete(f.caches, key)
	}
	f.added = slices.DeleteFunc(f.added, func(o *Cache) bool { return o == c })
	f.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed = true
	c.current.Store(nil) // whoever still has the cache must not take what it shows for the present
	c.index.all(func(w *Watcher) { w.close() })
	c.index = index{}
}

// Synced is closed once every kind added before Run is in memory.
func (f *Feed) Synced() <-chan struct{} { return f.synced }

// Run fills the caches and keeps them up to date until ctx ends. Trouble with etcd is logged and bridged.
func (f *Feed) Run(ctx context.Context) error {
	defer f.closeAll()
	backoff := minBackoff
	for refill := true; ; {
		err := f.follow(ctx, refill)
		if ctx.Err() != nil {
			return nil
		}
		if f.progressed() {
			backoff = minBackoff
		}
		refill = errors.Is(err, store.ErrCompacted) || !f.filled()
		f.log.Warn("watch of the store was interrupted, going on", zap.Bool("refill", refill), zap.Error(err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func (f *Feed) filled() bool {
	select {
	case <-f.synced:
		return true
	default:
		return false
	}
}

// progressed says whether the last watch brought anything, and forgets it.
func (f *Feed) progressed() bool { return f.watch.Swap(nil) != nil }

// follow fills the caches if need be and takes one watch to its end.
func (f *Feed) follow(ctx context.Context, refill bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	switch {
	case refill && f.within != "":
		// What is decoded by asking somebody else is not decoded for its history.
		if err := f.fillAll(ctx); err != nil {
			return err
		}
	case refill:
		done := make(chan struct{})
		f.recalling.Store(&done)
		if err := f.fillAll(ctx); err != nil {
			close(done)
			return err
		}
		rev := f.rev.Load()
		var recall sync.WaitGroup
		defer recall.Wait()
		recall.Go(func() {
			defer close(done)
			f.recall(ctx, rev)
		})
		defer cancel()
	}
	w := f.store.Watch(ctx, f.store.Prefix(f.within), f.rev.Load()+1)
	f.watch.Store(w)
	every := sweepEvery
	if f.within != "" {
		every = retryEvery
	}
	sweep := time.NewTicker(every)
	defer sweep.Stop()
	for {
		select {
		case batch, ok := <-w.C:
			if !ok {
				return ctx.Err()
			}
			if batch.Err != nil {
				return batch.Err
			}
			f.apply(ctx, batch)
		case <-f.more:
			if err := f.fill(ctx, f.takeAdded(), f.rev.Load()); err != nil {
				return err
			}
		case now := <-sweep.C:
			f.sweep(now)
			if f.within == "" {
				continue
			}
			if err := f.fill(ctx, f.damaged(), f.rev.Load()); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apply takes a batch of changes to the caches of their kinds; keys of unknown kinds are passed over.
func (f *Feed) apply(ctx context.Context, b store.Batch) {
	var touched []*Cache
	for _, e := range b.Events {
		for _, c := range f.cachesOf(e.Key) {
			if c.current.Load() == nil {
				continue
			}
			if len(c.batch) == 0 {
				touched = append(touched, c)
			}
			c.batch = append(c.batch, e)
		}
	}
	now := time.Now()
	for _, c := range touched {
		c.apply(ctx, now)
	}
	f.advance(b.Rev)
}

func (f *Feed) advance(rev int64) {
	if rev > f.rev.Load() {
		f.rev.Store(rev)
		f.wait.wake(rev)
	}
}

// cachesOf finds the caches of a key: storage keys have one or two parts.
func (f *Feed) cachesOf(key string) []*Cache {
	rest := key[len(f.store.Prefix("")):]
	one := strings.IndexByte(rest, '/')
	if one < 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.caches[rest[:one]]; c != nil {
		return c
	}
	two := strings.IndexByte(rest[one+1:], '/')
	if two < 0 {
		return nil
	}
	return f.caches[rest[:one+1+two]]
}

func (f *Feed) takeAdded() []*Cache {
	f.mu.Lock()
	defer f.mu.Unlock()
	added := f.added
	f.added = nil
	return added
}

// fillAll lists every kind at one revision.
func (f *Feed) fillAll(ctx context.Context) error {
	begin := time.Now()
	rev, err := f.store.Revision(ctx)
	if err != nil {
		return err
	}
	f.takeAdded()
	f.mu.Lock()
	all := f.all()
	f.mu.Unlock()
	if err := f.fill(ctx, all, rev); err != nil {
		return err
	}
	f.rev.Store(rev)
	f.wait.wake(rev)
	if !f.filled() {
		close(f.synced)
	}
	f.log.Debug("watch caches filled", zap.Int("kinds", len(all)), zap.Duration("took", time.Since(begin)))
	return nil
}

// fill lists some kinds at a revision, or now if that is gone, a few at a time.
func (f *Feed) fill(ctx context.Context, caches []*Cache, rev int64) error {
	errs := make([]error, len(caches))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i, c := range caches {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = f.fillOne(ctx, c, rev)
			if errors.Is(errs[i], store.ErrCompacted) {
				errs[i] = f.fillOne(ctx, c, 0)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (f *Feed) fillOne(ctx context.Context, c *Cache, rev int64) error {
	var items []*Item
	damaged := map[string]error{}
	for from := ""; ; {
		page, err := f.store.List(ctx, c.prefix, from, fillPage, rev)
		if err != nil {
			return fmt.Errorf("fill the watch cache: %w", err)
		}
		rev = page.Rev
		for _, kv := range page.KVs {
			it, err := c.decode(ctx, kv)
			if err != nil {
				damaged[kv.Key] = err
				continue
			}
			items = append(items, it)
		}
		if !page.More {
			break
		}
		from = page.KVs[len(page.KVs)-1].Key + "\x00"
	}
	c.fill(items, damaged, rev)
	return nil
}

// mark says what rev was at some time.
type mark struct {
	when time.Time
	rev  int64
}

// sweep drops what is kept for nobody any more.
func (f *Feed) sweep(now time.Time) {
	f.memo.sweep(now)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marks = append(f.marks, mark{now, f.rev.Load()})
	for now.Sub(f.marks[0].when) > keepAge {
		f.horizon.Store(f.marks[0].rev)
		f.marks = f.marks[1:]
	}
	for _, c := range f.all() {
		c.mu.Lock()
		c.kept.sweep(now)
		c.history.sweep(now)
		c.mu.Unlock()
	}
}

// damaged lists the caches with objects that could not be decoded.
func (f *Feed) damaged() []*Cache {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(f.all(), func(c *Cache) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.damaged) == 0
	})
}

// all lists the caches. The lock is held.
func (f *Feed) all() []*Cache {
	var all []*Cache
	for _, list := range f.caches {
		all = append(all, list...)
	}
	return all
}

// closeAll ends all watchers: the server stops.
func (f *Feed) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.all() {
		c.mu.Lock()
		c.index.all(func(w *Watcher) { w.close() })
		c.index = index{}
		c.mu.Unlock()
	}
}
