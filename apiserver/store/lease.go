package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A lease is shared by the keys of one time to live that are written within a minute, or within a twentieth of the
// time to live if that is shorter: it lasts that much longer, so a key lives at least as long as it should and little
// more. etcd slows down when many keys hang on one lease, so a lease takes a thousand.
const (
	leaseReuse   = int64(60)
	leaseMaxKeys = 1000
	// maxBuckets bounds the table of shared leases; beyond it the table starts anew, which only costs grants.
	maxBuckets = 64
)

// leases hands out etcd leases.
type leases struct {
	grant func(ctx context.Context, ttl int64) (clientv3.LeaseID, error)

	mu      sync.Mutex
	buckets map[int64]*bucket // by time to live in seconds
}

type bucket struct {
	id    clientv3.LeaseID
	keys  int
	until time.Time // no further keys after this
}

// get returns a lease that lasts at least ttl seconds from now. The lock is held while etcd grants one, so that a
// burst of writes asks for one lease.
func (l *leases) get(ctx context.Context, ttl int64, now time.Time) (clientv3.LeaseID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.buckets[ttl]; b != nil && b.keys < leaseMaxKeys && now.Before(b.until) {
		b.keys++
		return b.id, nil
	}
	reuse := min(leaseReuse, ttl/20)
	id, err := l.grant(ctx, ttl+reuse)
	if err != nil {
		return 0, err
	}
	if l.buckets == nil || len(l.buckets) >= maxBuckets {
		l.buckets = map[int64]*bucket{}
	}
	l.buckets[ttl] = &bucket{id: id, keys: 1, until: now.Add(time.Duration(reuse) * time.Second)}
	return id, nil
}

// drop forgets a lease that turned out to be gone.
func (l *leases) drop(ttl int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.buckets, ttl)
}

func (s *Store) grant(ctx context.Context, ttl int64) (clientv3.LeaseID, error) {
	resp, err := s.client.Grant(ctx, ttl)
	if err != nil {
		return 0, err
	}
	return resp.ID, nil
}

func leaseGone(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }
