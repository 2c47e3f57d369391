package store

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Event is one change of one key.
type Event struct {
	KV
	Deleted bool // Value is empty and Rev is the deletion's
	Created bool // the key did not exist before
}

// Batch is what etcd reports at once.
type Batch struct {
	Events []Event // in order of revision, and whole revisions
	// Rev says that everything up to it has been reported. A batch without events only says that.
	Rev int64
	// Err ends the watch; ErrCompacted: the revisions to report are gone. It is the last batch.
	Err error
}

// Watch is a running watch of a prefix.
type Watch struct {
	C      <-chan Batch
	client *clientv3.Client
	ctx    context.Context
}

// Watch reports all changes of keys under a prefix from revision from on (inclusive), until ctx ends, when C is
// closed. Short interruptions of the connection are bridged.
func (s *Store) Watch(ctx context.Context, prefix string, from int64) *Watch {
	ctx = clientv3.WithRequireLeader(ctx)
	in := s.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	out := make(chan Batch)
	go func() {
		defer close(out)
		for resp := range in {
			batch := fromResponse(resp)
			if batch.Err == nil && batch.Rev == 0 {
				continue // the watch was created
			}
			select {
			case out <- batch:
			case <-ctx.Done():
				return
			}
			if batch.Err != nil {
				return
			}
		}
		if ctx.Err() == nil {
			select {
			case out <- Batch{Err: errors.New("etcd closed the watch")}:
			case <-ctx.Done():
			}
		}
	}()
	return &Watch{C: out, client: s.client, ctx: ctx}
}

// Progress asks etcd to report how far the watch has come, as a batch without events.
func (w *Watch) Progress() error {
	if err := w.client.RequestProgress(w.ctx); err != nil {
		return fmt.Errorf("ask for the progress of a watch: %w", err)
	}
	return nil
}

func fromResponse(resp clientv3.WatchResponse) Batch {
	if err := resp.Err(); err != nil {
		return Batch{Err: fmt.Errorf("watch: %w", typed(err))}
	}
	if len(resp.Events) == 0 {
		if resp.IsProgressNotify() {
			return Batch{Rev: resp.Header.Revision}
		}
		return Batch{}
	}
	events := make([]Event, len(resp.Events))
	for i, e := range resp.Events {
		events[i] = Event{KV: fromEtcd(e.Kv), Deleted: e.Type == clientv3.EventTypeDelete, Created: e.IsCreate()}
	}
	// The header may be ahead of events that are still to come: only the last event counts.
	return Batch{Events: events, Rev: events[len(events)-1].Rev}
}
