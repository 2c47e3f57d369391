package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// compactKey is where apiservers, upstream's too, agree who compacts: its version counts the compactions, its value
// is the revision below which everything is dropped.
const compactKey = "compact_rev_key"

// CompactInterval is upstream's default time between compactions.
const CompactInterval = 5 * time.Minute

// fullInterval is the time between compactions while the store is full: every update takes room until it is compacted.
const fullInterval = 5 * time.Second

// Compact drops old revisions every interval until ctx ends: those that are at least one interval old, or, when the
// store is full, those of some seconds ago. Of several apiservers one does it each time. Failures are logged and tried
// again after the next interval.
func (s *Store) Compact(ctx context.Context, interval time.Duration, log *zap.Logger) {
	tick := time.NewTicker(min(interval, fullInterval))
	defer tick.Stop()
	var c compactor
	for last, full := time.Now(), false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		was := full
		switch full = s.Full(); {
		case full && !was:
			log.Warn("etcd's space quota is used up: nothing may grow until something is deleted")
		case was && !full:
			log.Info("there is room in etcd again")
		}
		if !full && time.Since(last) < interval {
			continue
		}
		last = time.Now()
		done, err := c.step(ctx, s.client)
		switch {
		case err != nil && ctx.Err() == nil:
			log.Warn("compaction failed, trying again later", zap.Error(err))
		case done > 0:
			log.Debug("compacted", zap.Int64("revision", done))
		}
	}
}

// compactor remembers what it saw last.
type compactor struct {
	turn int64 // version of the key
	rev  int64 // the store's revision at that time: to be dropped next
}

// step takes the next turn. If nobody else took it, everything before the revision of the last step is dropped and
// that revision returned.
func (c *compactor) step(ctx context.Context, client *clientv3.Client) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	resp, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.Version(compactKey), "=", c.turn)).
		Then(clientv3.OpPut(compactKey, strconv.FormatInt(c.rev, 10))).
		Else(clientv3.OpGet(compactKey)).Commit()
	if err != nil {
		return 0, fmt.Errorf("take the turn to compact: %w", err)
	}
	old := c.rev
	c.rev = resp.Header.Revision
	if !resp.Succeeded {
		kvs := resp.Responses[0].GetResponseRange().Kvs
		c.turn = 0
		if len(kvs) > 0 {
			c.turn = kvs[0].Version
		}
		return 0, nil
	}
	c.turn++
	if old == 0 {
		return 0, nil
	}
	if _, err := client.Compact(ctx, old); err != nil {
		return 0, fmt.Errorf("compact to revision %d: %w", old, err)
	}
	return old, nil
}
