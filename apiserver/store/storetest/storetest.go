// Package storetest is what every store must do, whatever is behind it: etcd in the same process, etcd elsewhere.
package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hardway/apiserver/store"
)

// Compactor drops everything before a revision; the suite makes the world forget with it.
type Compactor func(t *testing.T, rev int64)

// Run runs the suite. open makes an empty store.
func Run(t *testing.T, open func(t *testing.T) (*store.Store, Compactor)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s *store.Store, compact Compactor)
	}{
		{"create", create}, {"update", update}, {"delete", remove}, {"get", get}, {"list", list},
		{"list at a revision", listAt}, {"prefixes end in a slash", prefixes}, {"revision", revision},
		{"too large", tooLarge}, {"time to live", timeToLive}, {"watch", watch}, {"watch progress", progress},
		{"watch after compaction", watchCompacted}, {"races", races},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, compact := open(t)
			c.test(t, s, compact)
		})
	}
}

func put(t *testing.T, s *store.Store, key, value string) int64 {
	t.Helper()
	rev, err := s.Create(t.Context(), key, []byte(value), 0)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func change(t *testing.T, s *store.Store, key, value string, expect int64) int64 {
	t.Helper()
	rev, err := s.Update(t.Context(), key, []byte(value), expect, 0)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func want(t *testing.T, got store.KV, key, value string, rev int64) {
	t.Helper()
	if got.Key != key || string(got.Value) != value || got.Rev != rev {
		t.Errorf("got %s=%s at %d, want %s=%s at %d", got.Key, got.Value, got.Rev, key, value, rev)
	}
}

func create(t *testing.T, s *store.Store, _ Compactor) {
	rev := put(t, s, "/registry/a", "1")
	kv, at, err := s.Get(t.Context(), "/registry/a")
	if err != nil || at < rev {
		t.Errorf("read at %d: %v", at, err)
	}
	want(t, kv, "/registry/a", "1", rev)
	if _, err := s.Create(t.Context(), "/registry/a", []byte("2"), 0); !errors.Is(err, store.ErrExists) {
		t.Errorf("creating it again: %v", err)
	}
}

func update(t *testing.T, s *store.Store, _ Compactor) {
	first := put(t, s, "/registry/a", "1")
	second := change(t, s, "/registry/a", "2", first)
	if second <= first {
		t.Errorf("revision went from %d to %d", first, second)
	}
	_, err := s.Update(t.Context(), "/registry/a", []byte("3"), first, 0)
	var conflict *store.Conflict
	if !errors.As(err, &conflict) {
		t.Fatalf("from an old revision: %v", err)
	}
	want(t, conflict.Current, "/registry/a", "2", second)
	if _, err := s.Update(t.Context(), "/registry/b", []byte("1"), first, 0); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an absent key: %v", err)
	}
}

func remove(t *testing.T, s *store.Store, _ Compactor) {
	first := put(t, s, "/registry/a", "1")
	second := change(t, s, "/registry/a", "2", first)
	_, err := s.Delete(t.Context(), "/registry/a", first)
	var conflict *store.Conflict
	if !errors.As(err, &conflict) {
		t.Fatalf("from an old revision: %v", err)
	}
	want(t, conflict.Current, "/registry/a", "2", second)
	rev, err := s.Delete(t.Context(), "/registry/a", second)
	if err != nil || rev <= second {
		t.Errorf("deleted at %d: %v", rev, err)
	}
	if _, err := s.Delete(t.Context(), "/registry/a", second); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if again := put(t, s, "/registry/a", "3"); again <= rev {
		t.Errorf("created again at %d", again)
	}
}

func get(t *testing.T, s *store.Store, _ Compactor) {
	rev := put(t, s, "/registry/a", "1")
	_, at, err := s.Get(t.Context(), "/registry/b")
	if !errors.Is(err, store.ErrNotFound) || at != rev {
		t.Errorf("an absent key: %v at %d, want %d", err, at, rev)
	}
}

func keys(p store.Page) string {
	var out []string
	for _, kv := range p.KVs {
		out = append(out, strings.TrimPrefix(kv.Key, "/registry/p/"))
	}
	return strings.Join(out, " ")
}

func list(t *testing.T, s *store.Store, _ Compactor) {
	var last int64
	for _, k := range []string{"b/2", "a/1", "b/1", "c/1", "b/10"} {
		last = put(t, s, "/registry/p/"+k, k)
	}
	for _, row := range []struct {
		prefix, from string
		limit        int64
		want         string
		more         bool
		count        int64
	}{
		{"/registry/p/", "", 0, "a/1 b/1 b/10 b/2 c/1", false, 5},
		{"/registry/p/b/", "", 0, "b/1 b/10 b/2", false, 3},
		{"/registry/p/", "", 2, "a/1 b/1", true, 5},
		{"/registry/p/", "/registry/p/b/1\x00", 2, "b/10 b/2", true, 3},
		{"/registry/p/", "/registry/p/c", 2, "c/1", false, 1},
		{"/registry/p/d/", "", 0, "", false, 0},
	} {
		p, err := s.List(t.Context(), row.prefix, row.from, row.limit, 0)
		if err != nil {
			t.Fatal(err)
		}
		if keys(p) != row.want || p.More != row.more || p.Count != row.count || p.Rev != last {
			t.Errorf("%s from %q limit %d: %s, more %v, count %d, rev %d", row.prefix, row.from, row.limit, keys(p), p.More, p.Count, p.Rev)
		}
	}
}

func listAt(t *testing.T, s *store.Store, compact Compactor) {
	first := put(t, s, "/registry/p/a", "1")
	second := change(t, s, "/registry/p/a", "2", first)
	third := put(t, s, "/registry/p/b", "1")
	p, err := s.List(t.Context(), "/registry/p/", "", 0, first)
	if err != nil || len(p.KVs) != 1 || p.Rev != first {
		t.Fatalf("%v %v", p, err)
	}
	want(t, p.KVs[0], "/registry/p/a", "1", first)
	if _, err := s.List(t.Context(), "/registry/p/", "", 0, third+100); !errors.Is(err, store.ErrFuture) {
		t.Errorf("in the future: %v", err)
	}
	compact(t, third)
	if _, err := s.List(t.Context(), "/registry/p/", "", 0, second); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("after compaction: %v", err)
	}
}

func prefixes(t *testing.T, s *store.Store, _ Compactor) {
	for key, want := range map[string]string{"": "/registry/", "pods": "/registry/pods/", "services/specs": "/registry/services/specs/"} {
		if got := s.Prefix(key); got != want {
			t.Errorf("%q: %s", key, got)
		}
	}
}

func revision(t *testing.T, s *store.Store, _ Compactor) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				written, err := s.Create(t.Context(), fmt.Sprintf("/registry/%d-%d", i, j), nil, 0)
				if err != nil {
					t.Error(err)
				}
				if rev, err := s.Revision(t.Context()); err != nil || rev < written {
					t.Errorf("%v; revision %d after writing %d", err, rev, written)
				}
			}
		})
	}
	wg.Wait()
}

func tooLarge(t *testing.T, s *store.Store, _ Compactor) {
	if _, err := s.Create(t.Context(), "/registry/a", make([]byte, store.MaxValue+1), 0); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := s.Create(t.Context(), "/registry/a", make([]byte, store.MaxValue), 0); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

func timeToLive(t *testing.T, s *store.Store, _ Compactor) {
	rev := put(t, s, "/registry/stays", "")
	w := s.Watch(t.Context(), "/registry/", rev+1)
	if _, err := s.Create(t.Context(), "/registry/goes", []byte("1"), 1); err != nil {
		t.Fatal(err)
	}
	events := collect(t, w, 2)
	if e := events[1]; !e.Deleted || e.Key != "/registry/goes" {
		t.Errorf("got %+v", e)
	}
	if _, _, err := s.Get(t.Context(), "/registry/stays"); err != nil {
		t.Error(err)
	}
}

// collect reads n events.
func collect(t *testing.T, w *store.Watch, n int) []store.Event {
	t.Helper()
	var out []store.Event
	deadline := time.After(20 * time.Second)
	for len(out) < n {
		select {
		case b, ok := <-w.C:
			if !ok || b.Err != nil {
				t.Fatalf("watch ended: %v", b.Err)
			}
			out = append(out, b.Events...)
			if len(b.Events) > 0 && b.Rev != out[len(out)-1].Rev {
				t.Errorf("batch says %d after an event at %d", b.Rev, out[len(out)-1].Rev)
			}
		case <-deadline:
			t.Fatalf("only %d of %d events", len(out), n)
		}
	}
	return out
}

func watch(t *testing.T, s *store.Store, _ Compactor) {
	first := put(t, s, "/registry/p/a", "1")
	second := change(t, s, "/registry/p/a", "2", first)
	put(t, s, "/registry/q/a", "not watched")
	w := s.Watch(t.Context(), "/registry/p/", first)
	third, err := s.Delete(t.Context(), "/registry/p/a", second)
	if err != nil {
		t.Fatal(err)
	}
	fourth := put(t, s, "/registry/p/b", "1")
	events := collect(t, w, 4)
	for i, row := range []struct {
		rev              int64
		value            string
		created, deleted bool
	}{{first, "1", true, false}, {second, "2", false, false}, {third, "", false, true}, {fourth, "1", true, false}} {
		e := events[i]
		if e.Rev != row.rev || string(e.Value) != row.value || e.Created != row.created || e.Deleted != row.deleted {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func progress(t *testing.T, s *store.Store, _ Compactor) {
	first := put(t, s, "/registry/p/a", "1")
	w := s.Watch(t.Context(), "/registry/p/", first)
	collect(t, w, 1)
	elsewhere := put(t, s, "/registry/q/a", "1")
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case b := <-w.C:
			if len(b.Events) > 0 || b.Err != nil {
				t.Fatalf("got %+v", b)
			}
			if b.Rev >= elsewhere {
				return
			}
		case <-tick.C:
			if err := w.Progress(); err != nil {
				t.Fatal(err)
			}
		case <-deadline:
			t.Fatal("no progress was reported")
		}
	}
}

func watchCompacted(t *testing.T, s *store.Store, compact Compactor) {
	first := put(t, s, "/registry/p/a", "1")
	second := change(t, s, "/registry/p/a", "2", first)
	last := change(t, s, "/registry/p/a", "3", second)
	compact(t, last)
	w := s.Watch(t.Context(), "/registry/p/", first)
	b, ok := <-w.C
	if !ok || !errors.Is(b.Err, store.ErrCompacted) {
		t.Errorf("got %+v", b)
	}
	if b, ok := <-w.C; ok {
		t.Errorf("after the end: %+v", b)
	}
}

// races: of many that update from one revision, one wins each time.
func races(t *testing.T, s *store.Store, _ Compactor) {
	rev := put(t, s, "/registry/a", "0")
	for range 10 {
		var mu sync.Mutex
		var winners []int64
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				got, err := s.Update(t.Context(), "/registry/a", fmt.Append(nil, i), rev, 0)
				var conflict *store.Conflict
				switch {
				case err == nil:
					mu.Lock()
					winners = append(winners, got)
					mu.Unlock()
				case !errors.As(err, &conflict):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("%d winners", len(winners))
		}
		rev = winners[0]
	}
}
