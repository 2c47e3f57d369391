package cache

import (
	"context"
	"fmt"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/etcd"
	"hardway/apiserver/store"
)

// feedOn runs a feed of pods on a store until the test ends, and waits until its history is complete.
func feedOn(t *testing.T, st *store.Store) *Cache {
	t.Helper()
	f := NewFeed(st, Options{Log: zap.NewNop()})
	c := f.Add(pods, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx) //nolint:errcheck // it always ends well
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-f.Synced()
	f.Recalled(t.Context())
	return c
}

// A feed that begins on a store with a past lets watches resume in it, as if it had been there: with every change, its
// state before, and the selections that an object left.
func TestRecall(t *testing.T) {
	e, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir() + "/etcd"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	st := store.New(e.Client(), store.Options{})
	codec := store.NewCodec(pods, nil)
	key := st.Prefix("pods") + "default/a"
	value := func(p *corev1.Pod) []byte {
		v, err := codec.Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	must := func(rev int64, err error) int64 {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
	first := must(st.Create(t.Context(), key, value(pod("default", "a", "n1", "x")), 0))
	second := must(st.Update(t.Context(), key, value(pod("default", "a", "n2", "x")), first, 0))
	must(st.Create(t.Context(), st.Prefix("pods")+"default/b", value(pod("default", "b", "n1", "x")), 0))
	third := must(st.Delete(t.Context(), key, second))
	must(st.Create(t.Context(), "/elsewhere/x", nil, 0)) // not under the prefix

	c := feedOn(t, st)
	for _, test := range []struct {
		name, node string
		after      int64
		want       string
	}{
		{"all from the beginning", "", first - 1, "[ADDED a n1 MODIFIED a n2 ADDED b n1 DELETED a n2]"},
		{"all after the first", "", first, "[MODIFIED a n2 ADDED b n1 DELETED a n2]"},
		{"leaves the selection", "n1", first, "[DELETED a n1 ADDED b n1]"},
		{"enters the selection", "n2", first, "[ADDED a n2 DELETED a n2]"},
		{"after the last", "", third, "[]"},
	} {
		h := &harness{Cache: c, t: t}
		field := ""
		if test.node != "" {
			field = "spec.nodeName=" + test.node
		}
		w, err := c.Watch(h.sel("", "", field), WatchOptions{After: test.after})
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		got := []string{}
		events, _ := w.take()
		for _, e := range events {
			got = append(got, fmt.Sprintf("%s %s %s", e.Type, e.Item.Name, e.Item.Object.(*corev1.Pod).Spec.NodeName))
		}
		if fmt.Sprint(got) != test.want {
			t.Errorf("%s: %v, want %s", test.name, got, test.want)
		}
		w.Stop()
	}
}

// What is compacted cannot be recalled, and says so: never a silent gap.
func TestRecallBehindCompaction(t *testing.T) {
	e, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir() + "/etcd"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	st := store.New(e.Client(), store.Options{})
	codec := store.NewCodec(pods, nil)
	var revs []int64
	for i := range 6 {
		v, err := codec.Encode(pod("default", fmt.Sprint(i), "", ""))
		if err != nil {
			t.Fatal(err)
		}
		rev, err := st.Create(t.Context(), fmt.Sprintf("%sdefault/%d", st.Prefix("pods"), i), v, 0)
		if err != nil {
			t.Fatal(err)
		}
		revs = append(revs, rev)
	}
	if _, err := e.Client().Compact(t.Context(), revs[2]); err != nil {
		t.Fatal(err)
	}
	c := feedOn(t, st)
	h := &harness{Cache: c, t: t}
	for i, rev := range revs {
		w, err := c.Watch(h.sel("", "", ""), WatchOptions{After: rev})
		if i < 2 {
			if _, ok := err.(*TooOld); !ok { //nolint:errorlint // it is not wrapped
				t.Errorf("watch after revision %d of %v: %v, want TooOld", rev, revs, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("watch after revision %d of %v: %v", rev, revs, err)
			continue
		}
		if events, _ := w.take(); len(events) != len(revs)-1-i {
			t.Errorf("watch after the %dth: %d events", i, len(events))
		}
		w.Stop()
	}
}

func TestHistoryPrepend(t *testing.T) {
	h := history{since: 100}
	h.add(&change{rev: 101})
	h.add(&change{rev: 102})
	h.prepend([]*change{{rev: 98}, {rev: 99}}, 97)
	if h.since != 97 || h.len != 4 || h.after(98) != 1 || h.at(0).rev != 98 || h.at(3).rev != 102 {
		t.Errorf("since %d, %d changes from %d to %d", h.since, h.len, h.at(0).rev, h.at(h.len-1).rev)
	}
	many := make([]*change, historyMax)
	for i := range many {
		many[i] = &change{rev: int64(i)}
	}
	h = history{since: 1e6}
	h.add(&change{rev: 1e6 + 1})
	h.prepend(many, -1)
	if h.len != historyMax || h.since != 0 || h.at(0).rev != 1 {
		t.Errorf("beyond the bound: since %d, %d changes from %d", h.since, h.len, h.at(0).rev)
	}
}
