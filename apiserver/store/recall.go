package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Past is a change that happened before, with what the key held until then.
type Past struct {
	Event
	Before KV // Rev is 0 when there was nothing
}

// Recall reports the changes under a prefix from revision from, or the oldest that etcd still has, to revision to: every
// change after revision since was reported.
func (s *Store) Recall(ctx context.Context, prefix string, from, to int64, each func(Past)) (since int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for from = max(from, 1); from <= to; {
		reported := false
		oldest, err := s.recall(ctx, from, to, func(p Past) {
			reported = true
			if strings.HasPrefix(p.Key, prefix) {
				each(p)
			}
		})
		switch {
		case err == nil:
			return from - 1, nil
		case !errors.Is(err, ErrCompacted) || oldest < from || reported:
			return 0, fmt.Errorf("recall changes since revision %d: %w", from, err)
		}
		from = oldest + 1
	}
	return to, nil
}

// recall reports every change of every key, for each revision changes something: so its end is seen. When from is
// compacted, it returns the revision that still is.
func (s *Store) recall(ctx context.Context, from, to int64, each func(Past)) (compacted int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range s.client.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(from), clientv3.WithPrevKV()) {
		if err := resp.Err(); err != nil {
			return resp.CompactRevision, typed(err)
		}
		for _, e := range resp.Events {
			if e.Kv.ModRevision > to {
				return 0, nil
			}
			p := Past{Event: Event{KV: fromEtcd(e.Kv), Deleted: e.Type == clientv3.EventTypeDelete, Created: e.IsCreate()}}
			if e.PrevKv != nil {
				p.Before = fromEtcd(e.PrevKv)
			}
			each(p)
		}
		if n := len(resp.Events); n > 0 && resp.Events[n-1].Kv.ModRevision == to {
			return 0, nil
		}
	}
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	return 0, errors.New("etcd closed the watch")
}
