package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"hardway/apiserver/etcd"
	"hardway/apiserver/store"
)

// real is a feed on a real etcd.
type real struct {
	*Feed
	t      *testing.T
	pods   *Cache
	client *clientv3.Client
	local  func() int64
}

func newReal(t *testing.T) *real {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	e, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir() + "/etcd", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	f := NewFeed(store.New(e.Client(), store.Options{Revision: e.Revision()}), Options{Log: log})
	return &real{Feed: f, t: t, pods: f.Add(pods, nil), client: e.Client(), local: e.Revision()}
}

// start runs the feed until the test ends or stop is called.
func (r *real) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	select {
	case <-r.Synced():
	case <-time.After(10 * time.Second):
		r.t.Fatal("not synced")
	}
	stopped := false
	stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-done; err != nil {
				r.t.Error(err)
			}
		}
	}
	r.t.Cleanup(stop)
	return stop
}

func (r *real) put(namespace, name string) int64 {
	r.t.Helper()
	value, err := r.pods.codec.Encode(pod(namespace, name, "", ""))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.client.Put(r.t.Context(), r.pods.Key(namespace, name), string(value))
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.Header.Revision
}

func (r *real) fresh() []string {
	r.t.Helper()
	if _, err := r.Fresh(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	s, err := r.pods.Snapshot()
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for it := range s.All(&Selection{}, "") {
		out = append(out, it.Namespace+"/"+it.Name)
	}
	return out
}

func TestFeedFillsAndFollows(t *testing.T) {
	r := newReal(t)
	for i := range 2*fillPage + 10 {
		r.put("a", fmt.Sprintf("p%05d", i))
	}
	r.start()
	if got := r.fresh(); len(got) != 2*fillPage+10 || !slices.IsSorted(got) {
		t.Errorf("%d objects", len(got))
	}
	r.put("b", "x")
	if got := r.fresh(); got[len(got)-1] != "b/x" {
		t.Errorf("the last is %s", got[len(got)-1])
	}
	// The store's revision also moves by keys outside the prefix.
	for range 3 {
		if _, err := r.client.Put(t.Context(), "compact_rev_key", "1"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		r.fresh()
		if took := time.Since(begin); took > time.Second {
			t.Errorf("fresh after %s", took)
		}
	}
}

func TestKindAddedWhileRunning(t *testing.T) {
	r := newReal(t)
	r.start()
	kind := *pods
	kind.Plural, kind.StorageKey = "others", "others"
	value, err := r.pods.codec.Encode(pod("a", "x", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Put(t.Context(), "/registry/others/a/x", string(value)); err != nil {
		t.Fatal(err)
	}
	others := r.Add(&kind, nil)
	for deadline := time.Now().Add(10 * time.Second); ; {
		it, err := others.Get("a", "x")
		if it != nil {
			break
		}
		if time.Now().After(deadline) || err != nil && !errors.Is(err, ErrNotReady) {
			t.Fatalf("not filled: %v", err)
		}
		r.put("a", "y")
	}
	if _, err := r.client.Delete(t.Context(), "/registry/others/a/x"); err != nil {
		t.Fatal(err)
	}
	r.fresh()
	if it, err := others.Get("a", "x"); it != nil || err != nil {
		t.Errorf("after deletion: %v %v", it, err)
	}
}

// The feed is away while revisions are made and compacted: it fills anew, and nobody misses anything unknowingly.
func TestCompactedWhileAway(t *testing.T) {
	r := newReal(t)
	r.put("a", "x")
	if err := r.fillAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, err := r.pods.Watch(&Selection{}, WatchOptions{After: r.rev.Load()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	seen := r.rev.Load()
	r.put("a", "y")
	if _, err := r.client.Delete(t.Context(), r.pods.Key("a", "x")); err != nil {
		t.Fatal(err)
	}
	last := r.put("a", "z")
	if _, err := r.client.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if err := r.follow(t.Context(), false); !errors.Is(err, store.ErrCompacted) {
		t.Fatalf("following on: %v", err)
	}
	r.start()
	if got := r.fresh(); !slices.Equal(got, []string{"a/y", "a/z"}) {
		t.Errorf("after the refill: %v", got)
	}
	if events, err := w.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("the old watch got %d events, %v", len(events), err)
	}
	var old *TooOld
	if _, err := r.pods.Watch(&Selection{}, WatchOptions{After: seen}); !errors.As(err, &old) {
		t.Errorf("resuming: %v", err)
	}
}

// etcd elsewhere goes away and comes back: watchers miss nothing and notice nothing.
func TestEtcdRestarts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := etcd.Options{DataDir: t.TempDir() + "/etcd", ListenClient: []string{"http://" + l.Addr().String()}}
	l.Close()
	e, err := etcd.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { e.Stop() }()
	c, err := etcd.Dial(t.Context(), etcd.External{Endpoints: o.ListenClient})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f := NewFeed(store.New(c, store.Options{}), Options{})
	r := &real{Feed: f, t: t, pods: f.Add(pods, nil), client: c}
	defer r.start()()
	w, err := r.pods.Watch(&Selection{}, WatchOptions{After: r.rev.Load()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var got []string
	for round := range 2 {
		name := fmt.Sprint("p", round)
		r.put("a", name)
		e.Stop()
		if e, err = etcd.Start(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		r.put("b", name)
		if names := r.fresh(); !slices.Contains(names, "b/"+name) {
			t.Errorf("round %d: %v", round, names)
		}
		for len(got) < 2*(round+1) {
			events, err := w.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				got = append(got, e.Item.Namespace+"/"+e.Item.Name)
			}
		}
	}
	if want := []string{"a/p0", "b/p0", "a/p1", "b/p1"}; !slices.Equal(got, want) {
		t.Errorf("the watcher saw %v", got)
	}
}

func TestStoppedFeedEndsWatches(t *testing.T) {
	r := newReal(t)
	stop := r.start()
	w, err := r.pods.Watch(&Selection{}, WatchOptions{After: r.rev.Load()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	stop()
	if _, err := w.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkFresh(b *testing.B) {
	e, err := etcd.Start(b.Context(), etcd.Options{DataDir: b.TempDir() + "/etcd"})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Stop()
	st := store.New(e.Client(), store.Options{Revision: e.Revision()})
	f := NewFeed(st, Options{})
	f.Add(pods, nil)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	<-f.Synced()
	i := 0
	for b.Loop() {
		i++
		if _, err := st.Create(b.Context(), fmt.Sprintf("/registry/x/%d", i), nil, 0); err != nil {
			b.Fatal(err)
		}
		if _, err := f.Fresh(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-done //nolint:errcheck // how it ended does not matter here
}
