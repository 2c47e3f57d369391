package store

import (
	"context"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Revision returns a revision that is no older than any write acknowledged before the call. Callers that wait at the
// same time share one question to etcd.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	if s.revision != nil {
		return s.revision(), nil
	}
	return s.asks.join(ctx)
}

// KnowsRevision says that Revision needs no round trip.
func (s *Store) KnowsRevision() bool { return s.revision != nil }

// askRevision is the cheapest linearizable read.
func (s *Store) askRevision() (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, s.prefix, clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("ask etcd for its revision: %w", typed(err))
	}
	return resp.Header.Revision, nil
}

// asks lets many callers share a question. A caller never joins a question that is under way: its answer may be older
// than the caller's wish. At most one question is under way and one waits.
type asks struct {
	ask func() (int64, error)

	mu      sync.Mutex
	next    *answer // not yet asked
	running bool
}

type answer struct {
	done chan struct{}
	rev  int64
	err  error
}

func (a *asks) join(ctx context.Context) (int64, error) {
	a.mu.Lock()
	mine := a.next
	if mine == nil {
		mine = &answer{done: make(chan struct{})}
		a.next = mine
	}
	if !a.running {
		a.running = true
		go a.run()
	}
	a.mu.Unlock()
	select {
	case <-mine.done:
		return mine.rev, mine.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// run asks until nobody waits.
func (a *asks) run() {
	for {
		a.mu.Lock()
		current := a.next
		a.next = nil
		if current == nil {
			a.running = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		current.rev, current.err = a.ask()
		close(current.done)
	}
}
