package etcd

import (
	"context"
	"expvar"
	"fmt"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// electEvery is the time between attempts of a lone member to become leader.
const electEvery = 5 * time.Millisecond

// elect makes a lone member leader now instead of after an election timeout, in the way in which a leader hands over
// to another. It does nothing until raft has settled.
func elect(ctx context.Context, e *embed.Etcd) error {
	if e.Server.Leader() != 0 || !settled() {
		return nil
	}
	me := uint64(e.Server.MemberID())
	err := e.Server.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: &me, To: &me})
	if err != nil {
		return fmt.Errorf("elect the only member: %w", err)
	}
	return nil
}

// settled says that the newest member of this process has been told that all it had committed is applied. Until then
// raft would look through its log for changes of the members; parts of it may be compacted by then, which is a panic.
// The variable is how etcd shows raft's state for debugging; without it the election timeout does its work.
func settled() bool {
	status, ok := expvar.Get("raft.status").(expvar.Func)
	if !ok {
		return false
	}
	now, ok := status.Value().(raft.Status)
	return ok && now.HardState != nil && now.Applied >= now.GetCommit()
}
