package store

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"hardway/apiserver/etcd"
)

// Two apiservers take turns to compact, by upstream's protocol: what is dropped is at least one interval old.
func TestCompactorsAgree(t *testing.T) {
	e, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir() + "/etcd"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	c := e.Client()
	put := func() int64 {
		resp, err := c.Put(t.Context(), "/registry/x", "1")
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
	readable := func(rev int64) bool {
		_, err := c.Get(t.Context(), "/registry/x", clientv3.WithRev(rev))
		if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
			t.Fatal(err)
		}
		return err == nil
	}
	var first, second compactor
	step := func(who *compactor) int64 {
		done, err := who.step(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	old := put()
	if done := step(&first); done != 0 {
		t.Errorf("the first step compacted to %d", done)
	}
	atFirst := first.rev
	if step(&second) != 0 || !readable(old) {
		t.Error("the second one compacted though it was not its turn")
	}
	middle := put()
	if done := step(&first); done != atFirst || readable(old) || !readable(middle) {
		t.Errorf("after an interval: compacted to %d, want %d", done, atFirst)
	}
	if step(&second) != 0 {
		t.Error("the second one compacted right after the first")
	}
	put()
	// The first one dies; the second takes over an interval later.
	if done := step(&second); done == 0 || readable(middle) {
		t.Errorf("taking over: %d", done)
	}
	got, err := c.Get(t.Context(), compactKey)
	if err != nil || len(got.Kvs) != 1 || got.Kvs[0].Version != second.turn {
		t.Errorf("the key is %v, %v; the second one thinks it is turn %d", got, err, second.turn)
	}
}
