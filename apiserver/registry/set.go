package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/cache"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// Options are what a Set is made of. Kinds and Store are needed.
type Options struct {
	Kinds []*resource.Kind
	Store *store.Store
	// Transformer encrypts the values of a kind; nil, or a nil result, stores them plainly.
	Transformer func(gr schema.GroupResource) store.Transformer
	// Admission makes the chain. It gets the Set, whose registries it may keep but not call yet, because plugins
	// look up objects.
	Admission func(s *Set) admission.Chain
	// Hooks makes the hooks of those kinds that have any, likewise.
	Hooks func(s *Set) map[schema.GroupResource]Hooks
	// MemoBytes bounds remembered encodings; default cache.DefaultMemo.
	MemoBytes int
	// StoreOf is where a kind lies that does not lie in Store: nil, or a nil result, is Store. Each store has revisions
	// of its own.
	StoreOf func(gr schema.GroupResource) *store.Store
	// EventTTL is how long Events are kept; 0: as their kind says.
	EventTTL time.Duration
	// Compaction is how old revisions may become; default store.CompactInterval, negative: for ever.
	Compaction time.Duration
	Log        *zap.Logger
}

// Set holds the registries of all kinds, on one store, or a few, with a feed each.
type Set struct {
	shards     []shard // that of Options.Store is the first
	compaction time.Duration
	log        *zap.Logger
	seal       func(gr schema.GroupResource) store.Transformer
	chain      admission.Chain

	mu  sync.RWMutex
	all []*Registry
	by  map[schema.GroupResource]*Registry
}

// NewSet makes a registry for every kind that is stored. Nothing runs yet.
func NewSet(o Options) *Set {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Compaction == 0 {
		o.Compaction = store.CompactInterval
	}
	s := &Set{
		compaction: o.Compaction, log: o.Log, by: map[schema.GroupResource]*Registry{}, seal: o.Transformer,
	}
	s.shard(o.Store, o)
	for _, kind := range o.Kinds {
		if !kind.Stored() {
			continue
		}
		at := s.shards[0]
		if o.StoreOf != nil {
			if st := o.StoreOf(kind.GroupResource()); st != nil {
				at = s.shard(st, o)
			}
		}
		r := New(kind, at.store, at.feed.Add(kind, s.transformer(kind.GroupResource())), nil, Hooks{})
		r.eventTTL = int64(o.EventTTL / time.Second)
		s.all = append(s.all, r)
		s.by[r.gr] = r
	}
	var chain admission.Chain
	if o.Admission != nil {
		chain = o.Admission(s)
	}
	var hooks map[schema.GroupResource]Hooks
	if o.Hooks != nil {
		hooks = o.Hooks(s)
	}
	for _, r := range s.all {
		r.admission, r.hooks = chain, hooks[r.gr]
	}
	s.chain = chain
	return s
}

func (s *Set) transformer(gr schema.GroupResource) store.Transformer {
	if s.seal == nil {
		return nil
	}
	return s.seal(gr)
}

// Attach makes the registry of a kind that is declared while the server runs, on a feed that runs (nil: the set's own),
// and returns when its objects are there. For does not find it until Name says so.
func (s *Set) Attach(ctx context.Context, kind *resource.Kind, feed *cache.Feed) (*Registry, error) {
	if feed == nil {
		feed = s.shards[0].feed
	}
	c := feed.Add(kind, s.transformer(kind.GroupResource()))
	if err := c.Filled(ctx); err != nil {
		feed.Remove(c)
		return nil, fmt.Errorf("read the stored %s: %w", kind.GroupResource(), err)
	}
	return New(kind, s.shards[0].store, c, s.chain, Hooks{}), nil
}

// Detach ends a registry that was attached, and its watches.
func (s *Set) Detach(r *Registry) { r.cache.Feed().Remove(r.cache) }

// Feed makes a feed for kinds below a storage key. Its Run is the caller's to call.
func (s *Set) Feed(within string) *cache.Feed {
	return cache.NewFeed(s.shards[0].store, cache.Options{Within: within, Log: s.log})
}

// Name lets For and All find attached registries, and them alone beside those of the beginning.
func (s *Set) Name(attached []*Registry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(s.all), func(r *Registry) bool { return r.kind.Form != nil })
	by := map[schema.GroupResource]*Registry{}
	for _, r := range all {
		by[r.gr] = r
	}
	for _, r := range attached {
		all = append(all, r)
		by[r.gr] = r
	}
	s.all, s.by = all, by
}

// shard is a store with the feed of the kinds that lie there.
type shard struct {
	store *store.Store
	feed  *cache.Feed
}

// shard finds or makes that of a store.
func (s *Set) shard(st *store.Store, o Options) shard {
	for _, have := range s.shards {
		if have.store == st {
			return have
		}
	}
	made := shard{st, cache.NewFeed(st, cache.Options{MemoBytes: o.MemoBytes, Log: o.Log})}
	s.shards = append(s.shards, made)
	return made
}

// Run feeds the caches, and drops old revisions from etcd, until ctx ends; then all watches end.
func (s *Set) Run(ctx context.Context) error {
	errs := make([]error, len(s.shards))
	var running sync.WaitGroup
	for i, at := range s.shards {
		if s.compaction > 0 {
			running.Go(func() { at.store.Compact(ctx, s.compaction, s.log) })
		}
		running.Go(func() { errs[i] = at.feed.Run(ctx) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// WaitForSync returns when every cache holds its kind.
func (s *Set) WaitForSync(ctx context.Context) error {
	for _, at := range s.shards {
		select {
		case <-at.feed.Synced():
		case <-ctx.Done():
			return fmt.Errorf("fill the watch caches: %w", context.Cause(ctx))
		}
	}
	return nil
}

// Ready is a readiness check: the caches are filled and reach what etcd has.
func (s *Set) Ready(ctx context.Context) error {
	for _, at := range s.shards {
		select {
		case <-at.feed.Synced():
		default:
			return cache.ErrNotReady
		}
		if _, err := at.feed.Fresh(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Metrics are those of the caches.
func (s *Set) Metrics() prometheus.Collector {
	feeds := make(cache.Feeds, len(s.shards))
	for i, at := range s.shards {
		feeds[i] = at.feed
	}
	return feeds
}

// For finds a kind's registry, nil when there is none.
func (s *Set) For(gr schema.GroupResource) *Registry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.by[gr]
}

// All yields the registries in the order of the kinds.
func (s *Set) All() iter.Seq[*Registry] {
	return func(yield func(*Registry) bool) {
		s.mu.RLock()
		all := s.all
		s.mu.RUnlock()
		for _, r := range all {
			if !yield(r) {
				return
			}
		}
	}
}
