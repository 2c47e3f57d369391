package cache

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestSnapshotsDoNotChange(t *testing.T) {
	h := newHarness(t)
	h.put(pod("a", "x", "", ""))
	before, err := h.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	h.put(pod("a", "y", "", ""))
	h.delete("a", "x")
	all := h.sel("", "", "")
	if got := names(before, all); !slices.Equal(got, []string{"a/x@11"}) || before.Rev != 11 {
		t.Errorf("%v at %d", got, before.Rev)
	}
	after, err := h.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if got := names(after, all); !slices.Equal(got, []string{"a/y@12"}) || after.Rev != 13 {
		t.Errorf("%v at %d", got, after.Rev)
	}
}

func TestAtRemembersWhatWasKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		h.put(pod("a", "x", "", ""))
		h.feed.advance(20) // other kinds moved on
		for rev, want := range map[int64]bool{9: false, 10: false, 11: true, 15: true, 20: true, 21: false} {
			s := h.At(rev)
			if (s != nil) != want || s != nil && s.Rev != rev {
				t.Errorf("at %d: %+v", rev, s)
			}
		}
		h.Keep(h.At(15))
		h.rev = 20
		h.put(pod("a", "x", "", ""))
		if h.At(11) != nil || h.At(15) == nil {
			t.Error("only what was kept should be there")
		}
		time.Sleep(keepAge + time.Second)
		h.feed.sweep(time.Now())
		if h.At(15) != nil {
			t.Error("kept for ever")
		}
	})
}

// A revision does not stay because its kind does not change; the newest one does.
func TestAtForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		h.put(pod("a", "x", "", ""))
		h.feed.advance(20)
		h.feed.sweep(time.Now())
		h.feed.advance(30)
		if h.At(15) == nil || h.At(20) == nil {
			t.Error("forgotten too soon")
		}
		time.Sleep(keepAge + time.Second)
		h.feed.sweep(time.Now())
		for rev, want := range map[int64]bool{15: false, 19: false, 20: true, 30: true} {
			if s := h.At(rev); (s != nil) != want {
				t.Errorf("at %d: %+v", rev, s)
			}
		}
	})
}

func TestRemaining(t *testing.T) {
	h := newHarness(t)
	for i := range 100 {
		h.put(pod("a", fmt.Sprintf("p%02d", i), "", ""), pod("b", fmt.Sprintf("p%02d", i), "", ""))
	}
	s, err := h.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		namespace, after string
		want             int64
	}{{"", "a/p09", 190}, {"a", "a/p09", 90}, {"a", "a/p99", 0}, {"b", "b/p00", 99}, {"", "b/p98", 1}} {
		if got := s.Remaining(h.sel(row.namespace, "", ""), prefix+row.after); got != row.want {
			t.Errorf("%q after %s: %d", row.namespace, row.after, got)
		}
	}
}

func TestHistoryIsBoundedByCountAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		for range 3 * historyMin {
			h.put(pod("a", "x", "", ""))
		}
		if h.history.len != 3*historyMin || h.history.since != 10 {
			t.Errorf("young changes: %d since %d", h.history.len, h.history.since)
		}
		time.Sleep(historyAge + time.Second)
		last := h.put(pod("a", "x", "", ""))
		if h.history.len != historyMin || h.history.since != last-historyMin {
			t.Errorf("old changes: %d since %d of %d", h.history.len, h.history.since, last)
		}
		for i := range h.history.len {
			if got := h.history.at(i).rev; got != h.history.since+1+int64(i) {
				t.Fatalf("change %d is of %d", i, got)
			}
		}
		for range historyMax {
			h.put(pod("a", "x", "", ""))
		}
		if h.history.len != historyMax {
			t.Errorf("%d changes", h.history.len)
		}
		time.Sleep(historyAge + time.Second)
		h.feed.sweep(time.Now())
		if h.history.len >= historyMin || len(h.history.ring) > 4*historyMin || h.history.since != h.history.at(0).rev-1 {
			t.Errorf("idle: %d changes in a ring of %d, since %d", h.history.len, len(h.history.ring), h.history.since)
		}
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		f := h.feed
		if err := f.Wait(t.Context(), 10); err != nil {
			t.Error(err)
		}
		var passed atomic.Int32
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := f.Wait(t.Context(), 12); err != nil {
					t.Error(err)
				}
				passed.Add(1)
			})
		}
		synctest.Wait()
		h.put(pod("a", "x", "", ""))
		synctest.Wait()
		if passed.Load() != 0 {
			t.Error("passed at 11")
		}
		h.put(pod("a", "x", "", ""))
		wg.Wait()
		begin := time.Now()
		var late *NotFresh
		if err := f.Wait(t.Context(), 99); !errors.As(err, &late) || late.Have != 12 || time.Since(begin) != freshTimeout {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		if len(f.wait.list) != 0 {
			t.Error("waiters are left")
		}
	})
}

func TestEncodedOnceForAll(t *testing.T) {
	h := newHarness(t)
	h.put(pod("a", "x", "", ""))
	it, err := h.Get("a", "x")
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			media := fmt.Sprint("form", i%2)
			b, err := it.Encoded(media, schema.GroupVersion{Version: "v1"}, func(*Item) ([]byte, error) {
				calls.Add(1)
				return []byte(media), nil
			})
			if err != nil || string(b) != media {
				t.Errorf("%q %v", b, err)
			}
		})
	}
	wg.Wait()
	if calls.Load() != 2 {
		t.Errorf("encoded %d times", calls.Load())
	}
}

func TestObjectsShareTheirFieldSets(t *testing.T) {
	h := newHarness(t)
	for i := range 3 {
		p := pod("a", fmt.Sprint("p", i), "", "")
		p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: p.Name, FieldsV1: metav1.NewFieldsV1(fmt.Sprintf(`{"f:x%d":{}}`, i/2))}}
		h.put(p)
	}
	var sets []*metav1.FieldsV1
	for i := range 3 {
		it, err := h.Get("a", fmt.Sprint("p", i))
		if err != nil {
			t.Fatal(err)
		}
		sets = append(sets, it.Object.GetManagedFields()[0].FieldsV1)
	}
	if sets[0] != sets[1] || sets[1] == sets[2] || sets[2].String() != `{"f:x1":{}}` {
		t.Errorf("sets: %v", sets)
	}
}

func TestMemoIsBounded(t *testing.T) {
	h := newHarness(t)
	h.feed.memo.max = 10 * (1000 + entryCost)
	encode := func(it *Item) ([]byte, error) { return bytes.Repeat([]byte("x"), 1000), nil }
	for i := range 50 {
		h.put(pod("a", fmt.Sprintf("p%02d", i), "", ""))
	}
	s, err := h.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for it := range s.All(h.sel("", "", ""), "") {
			if _, err := it.Encoded("m", schema.GroupVersion{}, encode); err != nil {
				t.Fatal(err)
			}
		}
	}
	has := 0
	for it := range s.All(h.sel("", "", ""), "") {
		if it.encodings.Load() != nil {
			has++
		}
	}
	if m := &h.feed.memo; has != 10 || m.bytes > m.max {
		t.Errorf("%d forms, %d bytes of %d", has, m.bytes, m.max)
	}
	h.feed.memo.sweep(time.Now().Add(memoAge + time.Second))
	if m := &h.feed.memo; m.bytes != 0 || m.start != len(m.queue) {
		t.Errorf("after the sweep: %d bytes", m.bytes)
	}
}

func TestProtoIsTheObject(t *testing.T) {
	h := newHarness(t)
	h.put(pod("a", "x", "n1", "web"))
	it, err := h.Get("a", "x")
	if err != nil {
		t.Fatal(err)
	}
	want, err := it.Object.(*corev1.Pod).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := it.AppendProto([]byte("head"))
	if err != nil || !bytes.Equal(got[4:], want) || it.ProtoSize() != len(want) || it.body == nil {
		t.Errorf("%v\ngot  %q\nwant %q", err, got[4:], want)
	}
	it.body = nil
	if got, err = it.AppendProto([]byte("head")); err != nil || !bytes.Equal(got[4:], want) || it.ProtoSize() != len(want) {
		t.Errorf("encoded anew: %v %q", err, got)
	}
}

func TestKeysOfTwoParts(t *testing.T) {
	h := newHarness(t)
	kind := *pods
	kind.StorageKey = "services/specs"
	two := h.feed.Add(&kind, nil)
	for key, want := range map[string]*Cache{
		"/registry/pods/a/x": h.Cache, "/registry/services/specs/a/x": two, "/registry/services/endpoints/a/x": nil,
		"/registry/ranges/servicenodeports": nil, "/registry/x": nil,
	} {
		got := h.feed.cachesOf(key)
		if want == nil && len(got) > 0 || want != nil && !slices.Equal(got, []*Cache{want}) {
			t.Errorf("%s goes to %v", key, got)
		}
	}
}

// One change, many watchers of other nodes: the cost is that of finding the one who wants it.
func BenchmarkThousandNodeAgents(b *testing.B) {
	h := newHarness(b)
	ws := make([]*Watcher, 1000)
	for i := range ws {
		ws[i] = h.watch(h.sel("", "", fmt.Sprintf("spec.nodeName=n%d", i)), WatchOptions{After: 10})
	}
	p := pod("a", "x", "n7", "web")
	for b.Loop() {
		h.put(p)
		if _, err := ws[7].Next(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// A hundred watchers that want everything.
func BenchmarkFanOut(b *testing.B) {
	h := newHarness(b)
	ws := make([]*Watcher, 100)
	for i := range ws {
		ws[i] = h.watch(h.sel("", "", ""), WatchOptions{After: 10})
	}
	p := pod("a", "x", "n7", "web")
	for b.Loop() {
		h.put(p)
		for _, w := range ws {
			if _, err := w.Next(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
}
