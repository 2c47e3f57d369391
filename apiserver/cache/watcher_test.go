package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"hardway/apiserver/store"
)

func next(t *testing.T, w *Watcher) string {
	t.Helper()
	events, err := w.Next(t.Context())
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, e := range events {
		out = append(out, show(e))
	}
	return strings.Join(out, ", ")
}

func TestTransitions(t *testing.T) {
	h := newHarness(t)
	onN1 := h.watch(h.sel("", "", "spec.nodeName=n1"), WatchOptions{After: 10})
	isWeb := h.watch(h.sel("a", "app=web", ""), WatchOptions{After: 10})
	h.put(pod("a", "x", "", "web"))   // 11
	h.put(pod("a", "x", "n1", "web")) // 12
	h.put(pod("a", "x", "n1", "db"))  // 13
	h.put(pod("a", "x", "n2", "web")) // 14
	h.put(pod("b", "x", "n2", "web")) // 15
	h.delete("a", "x")                // 16
	if got := next(t, onN1); got != "ADDED a/x@12, MODIFIED a/x@13, DELETED a/x@14" {
		t.Errorf("by node: %s", got)
	}
	if got := next(t, isWeb); got != "ADDED a/x@11, MODIFIED a/x@12, DELETED a/x@13, ADDED a/x@14, DELETED a/x@16" {
		t.Errorf("by label: %s", got)
	}
}

func TestDeletedShowsTheLastSelectedStateAtTheEventsRevision(t *testing.T) {
	h := newHarness(t)
	w := h.watch(h.sel("", "app=web", ""), WatchOptions{After: 10})
	h.put(pod("a", "x", "n1", "web"))
	h.put(pod("a", "x", "n2", "db"))
	events, err := w.Next(t.Context())
	if err != nil || len(events) != 2 {
		t.Fatal(err, events)
	}
	obj := events[1].Item.Object
	if obj.GetResourceVersion() != "12" || obj.GetLabels()["app"] != "web" {
		t.Errorf("%s %v", obj.GetResourceVersion(), obj.GetLabels())
	}
	if was := events[0].Item.Object.GetResourceVersion(); was != "11" {
		t.Errorf("the item itself was changed: %s", was)
	}
	if b, err := events[1].Item.AppendProto(nil); err != nil || len(b) != events[1].Item.ProtoSize() || !strings.Contains(string(b), "2\x0212") {
		t.Errorf("protobuf: %v %q", err, b)
	}
}

func TestResumeFromHistory(t *testing.T) {
	h := newHarness(t)
	h.put(pod("a", "x", "", ""), pod("a", "y", "", ""))
	h.put(pod("b", "z", "", ""))
	resumed := map[int64]*Watcher{}
	for _, after := range []int64{10, 12, 13} {
		resumed[after] = h.watch(h.sel("", "", ""), WatchOptions{After: after})
	}
	future := h.watch(h.sel("", "", ""), WatchOptions{After: 14})
	h.put(pod("c", "c", "", ""))
	for after, want := range map[int64]string{
		10: "ADDED a/x@11, ADDED a/y@12, ADDED b/z@13, ADDED c/c@14",
		12: "ADDED b/z@13, ADDED c/c@14",
		13: "ADDED c/c@14",
	} {
		if got := next(t, resumed[after]); got != want {
			t.Errorf("after %d: %s", after, got)
		}
	}
	h.put(pod("c", "d", "", ""))
	if got := next(t, future); got != "ADDED c/d@15" {
		t.Errorf("from a revision that was yet to come: %s", got)
	}
	var old *TooOld
	if _, err := h.Watch(h.sel("", "", ""), WatchOptions{After: 9}); !errors.As(err, &old) || err.Error() != "too old resource version: 9 (10)" {
		t.Errorf("before the fill: %v", err)
	}
}

func TestInitialEventsThenLive(t *testing.T) {
	h := newHarness(t)
	h.put(pod("a", "x", "", ""), pod("b", "y", "", ""))
	w := h.watch(h.sel("", "", ""), WatchOptions{Initial: true, InitialEnd: true})
	h.put(pod("a", "z", "", ""))
	if got := next(t, w); got != "ADDED a/x@11, ADDED b/y@12, BOOKMARK end@12" {
		t.Errorf("initial: %s", got)
	}
	if got := next(t, w); got != "ADDED a/z@13" {
		t.Errorf("then: %s", got)
	}
	many := h.watch(h.sel("none", "", ""), WatchOptions{Initial: true, InitialEnd: true})
	if got := next(t, many); got != "BOOKMARK end@13" {
		t.Errorf("nothing there: %s", got)
	}
}

func TestInitialEventsInBatches(t *testing.T) {
	h := newHarness(t)
	for i := range 2*initialBatch + 1 {
		h.put(pod("a", fmt.Sprint("p", i), "", ""))
	}
	w := h.watch(h.sel("", "", ""), WatchOptions{Initial: true, InitialEnd: true})
	total := 0
	for {
		events, err := w.Next(t.Context())
		if err != nil || len(events) > initialBatch+1 {
			t.Fatal(err, len(events))
		}
		if total += len(events); events[len(events)-1].InitialEnd {
			break
		}
	}
	if total != 2*initialBatch+2 {
		t.Errorf("%d events", total)
	}
}

func TestSlowWatcherIsCut(t *testing.T) {
	h := newHarness(t)
	slow := h.watch(h.sel("", "", ""), WatchOptions{After: 10})
	quick := h.watch(h.sel("", "", ""), WatchOptions{After: 10})
	got := 0
	for range maxPending + 1 {
		h.put(pod("a", "x", "", ""))
		events, err := quick.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got += len(events)
	}
	if got != maxPending+1 {
		t.Errorf("the quick one got %d events", got)
	}
	if events, err := slow.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("the slow one: %d events, %v", len(events), err)
	}
	if n := len(h.index.buckets[everything]); n != 1 {
		t.Errorf("%d watchers are still indexed", n)
	}
}

func TestRefillEndsWatches(t *testing.T) {
	h := newHarness(t)
	w := h.watch(h.sel("", "", ""), WatchOptions{After: 10})
	h.put(pod("a", "x", "", ""))
	h.fill(nil, nil, 50)
	h.feed.rev.Store(50)
	if got := next(t, w); got != "ADDED a/x@11" {
		t.Errorf("pending events: %s", got)
	}
	if got := next(t, w); got != io.EOF.Error() {
		t.Errorf("then: %s", got)
	}
	var old *TooOld
	if _, err := h.Watch(h.sel("", "", ""), WatchOptions{After: 11}); !errors.As(err, &old) {
		t.Errorf("resuming: %v", err)
	}
}

func TestBookmarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		begin := time.Now()
		w := h.watch(h.sel("a", "", ""), WatchOptions{After: 10, Bookmarks: true, Timeout: 3*time.Minute + 30*time.Second})
		h.put(pod("b", "x", "", "")) // not selected, but it moves the revision
		var got []string
		for {
			events, err := w.Next(t.Context())
			if err != nil {
				got = append(got, fmt.Sprintf("%s %v", time.Since(begin), err))
				break
			}
			for _, e := range events {
				got = append(got, fmt.Sprintf("%s %s", time.Since(begin), show(e)))
			}
		}
		want := []string{"1m0s BOOKMARK@11", "2m0s BOOKMARK@11", "3m0s BOOKMARK@11", "3m28s BOOKMARK@11", "3m30s EOF"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
}

func TestBusyWatchEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		w := h.watch(h.sel("", "", ""), WatchOptions{After: 10, Timeout: 10 * time.Second})
		for second := range 15 {
			h.put(pod("a", "x", "", ""))
			if _, err := w.Next(t.Context()); errors.Is(err, io.EOF) != (second >= 10) {
				t.Errorf("after %d s: %v", second, err)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestNextWaitsAndIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		w := h.watch(h.sel("", "", ""), WatchOptions{After: 10})
		done := make(chan string)
		go func() { done <- next(t, w) }()
		synctest.Wait()
		h.put(pod("a", "x", "", ""))
		if got := <-done; got != "ADDED a/x@11" {
			t.Error(got)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("the client is gone")
		go func() { _, err := w.Next(ctx); done <- err.Error() }()
		synctest.Wait()
		cancel(gone)
		if got := <-done; got != gone.Error() {
			t.Error(got)
		}
	})
}

// Whatever happens, a client that lists and then watches, with breaks, knows what a list would tell it.
func TestWatchReplaysToTheList(t *testing.T) {
	for seed := range int64(30) {
		r := rand.New(rand.NewSource(seed))
		h := newHarness(t)
		clients := make([]*client, 12)
		for i := range clients {
			clients[i] = newClient(h, r)
		}
		for range 300 {
			step(h, r)
			c := clients[r.Intn(len(clients))]
			switch r.Intn(10) {
			case 0:
				c.resume()
			case 1, 2, 3:
				c.drain()
			}
		}
		for i, c := range clients {
			c.drain()
			s, err := h.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			want := names(s, c.sel)
			if got := c.names(); !slices.Equal(got, want) {
				t.Fatalf("seed %d client %d: knows %v\nthe list is %v", seed, i, got, want)
			}
		}
	}
}

// step does one random thing, or a batch of them.
func step(h *harness, r *rand.Rand) {
	pick := func(list ...string) string { return list[r.Intn(len(list))] }
	if r.Intn(4) == 0 {
		h.delete(pick("a", "b"), pick("x", "y", "z"))
		return
	}
	for range 1 + r.Intn(3) {
		h.put(pod(pick("a", "b"), pick("x", "y", "z"), pick("", "n1", "n2"), pick("", "web", "db")))
	}
}

// client keeps what a watch tells it.
type client struct {
	h    *harness
	sel  *Selection
	w    *Watcher
	rev  int64
	know map[string]int64
}

func newClient(h *harness, r *rand.Rand) *client {
	pick := func(list ...string) string { return list[r.Intn(len(list))] }
	c := &client{h: h, know: map[string]int64{}}
	c.sel = h.sel(pick("", "a", "b"), pick("", "app=web", "app!=db"), pick("", "spec.nodeName=n1", "metadata.name=x", "spec.nodeName!=n1"))
	c.w = h.watch(c.sel, WatchOptions{Initial: true, InitialEnd: true})
	return c
}

// resume breaks the watch off, with or without having read everything, and goes on after the last event.
func (c *client) resume() {
	if c.rev == 0 {
		return // not even the initial events are read
	}
	c.w.Stop()
	c.w = c.h.watch(c.sel, WatchOptions{After: c.rev})
}

func (c *client) drain() {
	ctx, cancel := context.WithCancel(c.h.t.Context())
	cancel()
	for {
		events, err := c.w.Next(ctx)
		if err != nil {
			return
		}
		for _, e := range events {
			c.take(e)
		}
	}
}

func (c *client) take(e Event) {
	if e.Rev < c.rev && e.Type != watch.Added {
		c.h.t.Fatalf("%s after %d", show(e), c.rev)
	}
	if e.Item == nil {
		c.rev = e.Rev
		return
	}
	key := e.Item.Namespace + "/" + e.Item.Name
	_, known := c.know[key]
	if known != (e.Type != watch.Added) {
		c.h.t.Fatalf("%s, but known: %v", show(e), known)
	}
	if e.Type == watch.Deleted {
		delete(c.know, key)
	} else {
		c.know[key] = e.Item.Rev
	}
	if c.rev > 0 {
		c.rev = e.Rev
	}
}

func (c *client) names() []string {
	var out []string
	for key, rev := range c.know {
		out = append(out, fmt.Sprintf("%s@%d", key, rev))
	}
	slices.Sort(out)
	return out
}

func TestDamagedObjectsAreNotLeftOutSilently(t *testing.T) {
	h := newHarness(t)
	h.put(pod("a", "x", "", ""), pod("b", "y", "", ""))
	w := h.watch(h.sel("", "", ""), WatchOptions{After: h.rev})
	h.rev++
	h.feed.apply(t.Context(), store.Batch{Rev: h.rev, Events: []store.Event{{KV: store.KV{Key: prefix + "a/x", Value: []byte("?"), Rev: h.rev}}}})
	if got := next(t, w); got != "DELETED a/x@13" {
		t.Errorf("watchers see %s", got)
	}
	s, err := h.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for namespace, bad := range map[string]bool{"": true, "a": true, "b": false} {
		if err := s.Damaged(h.sel(namespace, "", "")); (err != nil) != bad {
			t.Errorf("namespace %q: %v", namespace, err)
		}
	}
	if it, err := h.Get("a", "x"); it != nil || err == nil {
		t.Errorf("get: %v %v", it, err)
	}
	h.put(pod("a", "x", "", ""))
	if got := next(t, w); got != "ADDED a/x@14" {
		t.Errorf("repaired: %s", got)
	}
	if s, err = h.Snapshot(); err != nil || s.Damaged(h.sel("", "", "")) != nil {
		t.Errorf("still damaged: %v", err)
	}
}
