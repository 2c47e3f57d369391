package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// MaxValue is the largest value in bytes: etcd refuses requests over 1.5 MiB, and some of that is framing.
const MaxValue = 3<<19 - 4<<10

// opTimeout bounds one operation, so that a lost etcd cannot hold requests for ever.
const opTimeout = 30 * time.Second

// Options say how a Store works. Zero values are useful.
type Options struct {
	// Prefix is where everything lies. Default "/registry".
	Prefix string
	// Revision reports the newest revision without a round trip, linearizably; nil: etcd is asked.
	Revision func() int64
	// Full says that nothing may grow any more; nil: etcd knows best. Creations are refused then, and callers refuse
	// what MayGrow forbids; deletions, leases and compaction go on.
	Full func() bool
	// Metrics are optional.
	Metrics *Metrics
}

// Store is the only client of etcd.
type Store struct {
	client   *clientv3.Client
	prefix   string
	revision func() int64
	full     func() bool
	metrics  *Metrics
	leases   leases
	asks     asks
}

// KV is a key with its value and the revision that wrote it.
type KV struct {
	Key   string
	Value []byte
	Rev   int64
}

// Page is a part of a list.
type Page struct {
	KVs  []KV
	Rev  int64 // the revision that the page shows
	More bool  // there are further keys after the last one
	// Count is the number of keys from the page's first to the end of the prefix.
	Count int64
}

// New makes a store on an etcd client, which stays the caller's.
func New(c *clientv3.Client, o Options) *Store {
	prefix := "/registry"
	if o.Prefix != "" {
		prefix = "/" + strings.Trim(o.Prefix, "/")
	}
	s := &Store{client: c, prefix: prefix, revision: o.Revision, full: o.Full, metrics: o.Metrics}
	s.leases.grant = s.grant
	s.asks.ask = s.askRevision
	return s
}

// Prefix returns the prefix of a storage key such as "pods" or "services/specs"; "" is everything.
func (s *Store) Prefix(storageKey string) string {
	if storageKey == "" {
		return s.prefix + "/"
	}
	return s.prefix + "/" + storageKey + "/"
}

// Full says that nothing may grow any more.
func (s *Store) Full() bool { return s.full != nil && s.full() }

// smallGrowth is what an object may grow in a full store: finalizers go and deletions begin by updates that add a little.
const smallGrowth = 512

// MayGrow says whether a value of was bytes may become one of now bytes: ErrNoSpace when the store is too full for that.
func (s *Store) MayGrow(was, now int) error {
	if now > was+smallGrowth && s.Full() {
		return ErrNoSpace
	}
	return nil
}

// Create writes a key that must not exist: ErrExists otherwise. ttl is in seconds, 0 for ever.
func (s *Store) Create(ctx context.Context, key string, value []byte, ttl int64) (rev int64, err error) {
	defer func(begin time.Time) { s.measure(opCreate, key, begin, err) }(time.Now())
	if s.Full() {
		return 0, fmt.Errorf("create %s: %w", key, ErrNoSpace)
	}
	absent := clientv3.Compare(clientv3.ModRevision(key), "=", 0)
	resp, err := s.put(ctx, absent, key, value, ttl, nil)
	if err != nil {
		return 0, fmt.Errorf("create %s: %w", key, err)
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("create %s: %w", key, ErrExists)
	}
	return resp.Header.Revision, nil
}

// Update overwrites a key that must be at revision expect: else *Conflict with what is there, or ErrNotFound.
func (s *Store) Update(ctx context.Context, key string, value []byte, expect, ttl int64) (rev int64, err error) {
	defer func(begin time.Time) { s.measure(opUpdate, key, begin, err) }(time.Now())
	same := clientv3.Compare(clientv3.ModRevision(key), "=", expect)
	get := clientv3.OpGet(key)
	resp, err := s.put(ctx, same, key, value, ttl, &get)
	if err == nil {
		err = lost(resp)
	}
	if err != nil {
		return 0, fmt.Errorf("update %s: %w", key, err)
	}
	return resp.Header.Revision, nil
}

// Delete removes a key that must be at revision expect: else *Conflict with what is there, or ErrNotFound.
func (s *Store) Delete(ctx context.Context, key string, expect int64) (rev int64, err error) {
	defer func(begin time.Time) { s.measure(opDelete, key, begin, err) }(time.Now())
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	resp, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", expect)).
		Then(clientv3.OpDelete(key)).Else(clientv3.OpGet(key)).Commit()
	if err == nil {
		err = lost(resp)
	}
	if err != nil {
		return 0, fmt.Errorf("delete %s: %w", key, typed(err))
	}
	return resp.Header.Revision, nil
}

// put runs the transaction of Create and Update, once more if its shared lease has just expired.
func (s *Store) put(ctx context.Context, cond clientv3.Cmp, key string, value []byte, ttl int64, otherwise *clientv3.Op,
) (*clientv3.TxnResponse, error) {
	if len(value) > MaxValue {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(value), MaxValue)
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		var opts []clientv3.OpOption
		if ttl > 0 {
			lease, err := s.leases.get(ctx, ttl, time.Now())
			if err != nil {
				return nil, fmt.Errorf("lease of %d s: %w", ttl, typed(err))
			}
			opts = append(opts, clientv3.WithLease(lease))
		}
		txn := s.client.Txn(ctx).If(cond).Then(clientv3.OpPut(key, string(value), opts...))
		if otherwise != nil {
			txn = txn.Else(*otherwise)
		}
		resp, err := txn.Commit()
		if leaseGone(err) && attempt == 0 {
			s.leases.drop(ttl)
			continue
		}
		return resp, typed(err)
	}
}

// lost tells why a transaction did not happen.
func lost(resp *clientv3.TxnResponse) error {
	if resp.Succeeded {
		return nil
	}
	kvs := resp.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return ErrNotFound
	}
	return &Conflict{Current: fromEtcd(kvs[0])}
}

// Get reads a key as it is now, and the revision at which it was read, which an absent key has too (ErrNotFound).
func (s *Store) Get(ctx context.Context, key string) (kv KV, rev int64, err error) {
	defer func(begin time.Time) { s.measure(opGet, key, begin, err) }(time.Now())
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, key)
	if err != nil {
		return KV{}, 0, fmt.Errorf("get %s: %w", key, typed(err))
	}
	if len(resp.Kvs) == 0 {
		return KV{}, resp.Header.Revision, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	return fromEtcd(resp.Kvs[0]), resp.Header.Revision, nil
}

// List reads up to limit keys (0: all) under a prefix, from a key on (empty: the first), at a revision (0: now).
// ErrCompacted and ErrFuture tell why a revision cannot be read.
func (s *Store) List(ctx context.Context, prefix, from string, limit, rev int64) (page Page, err error) {
	defer func(begin time.Time) { s.measure(opList, prefix, begin, err) }(time.Now())
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if from == "" {
		from = prefix
	}
	resp, err := s.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)),
		clientv3.WithLimit(limit), clientv3.WithRev(rev))
	if err != nil {
		return Page{}, fmt.Errorf("list %s: %w", prefix, typed(err))
	}
	page = Page{KVs: make([]KV, len(resp.Kvs)), Rev: resp.Header.Revision, More: resp.More, Count: resp.Count}
	if rev > 0 {
		page.Rev = rev
	}
	for i, kv := range resp.Kvs {
		page.KVs[i] = fromEtcd(kv)
	}
	return page, nil
}

func fromEtcd(kv *mvccpb.KeyValue) KV {
	return KV{Key: string(kv.Key), Value: kv.Value, Rev: kv.ModRevision}
}
