package runtime

import (
	"context"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/sandbox"
	"hardway/nodeagent/supervisor/wire"
)

// watch follows the supervisor of a pod until it is gone or this Runtime closes. Called with the pod's lock held, so that
// it cannot overlook that an earlier watch is just ending.
func (r *Runtime) watch(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watching[uid] {
		return
	}
	r.watching[uid] = true
	r.wg.Go(func() {
		for again := false; r.ctx.Err() == nil; again = true {
			err := r.follow(uid, again)
			if r.ctx.Err() != nil {
				return
			}
			if alive, aerr := sandbox.Alive(r.podDir(uid)); aerr == nil && !alive {
				if r.lost(uid) {
					return
				}
				continue
			}
			r.log.Debug("connection to pod supervisor broke", zap.String("uid", string(uid)), zap.Error(err))
			select {
			case <-r.ctx.Done():
			case <-time.After(retryPause):
			}
		}
	})
}

// follow turns what the supervisor tells into events until the connection ends. After an interruption (again) every
// container's state is an event, since some may have been missed.
func (r *Runtime) follow(uid types.UID, again bool) error {
	conn, first, _, err := wire.Open(r.ctx, r.podDir(uid), wire.Request{Op: wire.OpWatch})
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(r.ctx, func() { conn.Close() })
	defer stop()
	if again {
		for _, st := range first.Statuses {
			r.emit(Event{UID: uid, Container: st})
		}
	}
	for {
		var next wire.Reply
		if _, err := wire.Receive(conn, &next); err != nil {
			return err
		}
		if next.Status != nil {
			r.emit(Event{UID: uid, Container: *next.Status})
		}
	}
}

// lost handles a supervisor that is gone: it ends the watch and returns true, unless there is a new one by now. When the
// pod was removed there is nothing to tell.
func (r *Runtime) lost(uid types.UID) bool {
	defer r.lock(uid)()
	if alive, err := sandbox.Alive(r.podDir(uid)); err != nil || alive {
		return false
	}
	r.mu.Lock()
	delete(r.watching, uid)
	r.mu.Unlock()
	rec, ok, err := r.readRecord(uid)
	if err != nil || !ok {
		return true
	}
	if err := r.killLeftovers(rec.Config); err != nil {
		r.log.Error("containers of a lost pod cannot be killed", zap.String("uid", string(uid)), zap.Error(err))
	}
	r.emit(Event{UID: uid})
	return true
}
