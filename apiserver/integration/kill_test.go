package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"hardway/shared/client"
	"hardway/shared/testenv"
)

const (
	killWriters  = 8
	killWatchers = 3
	writesAKill  = 200
)

// written is one write that the server has acknowledged, or that was found done after the server died over it.
type written struct {
	key     string
	rev     int64 // of the object; of a deletion: that of the object before
	seq     string
	deleted bool
}

// ledger is all of them.
type ledger struct {
	mu  sync.Mutex
	all []written // guarded by mu
	n   atomic.Int64
}

func (l *ledger) add(w written) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, w)
	l.n.Add(1)
}

// A server that is killed with kill -9 in the midst of writes has all that it acknowledged and nothing by halves, and
// watches that resume after their last event miss nothing and see nothing twice. HARDWAY_KILLS=50 does it as often.
func TestKilledServerLosesNothing(t *testing.T) {
	kills := 3
	if text := os.Getenv("HARDWAY_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	e := testenv.Start(t)
	e.Stop()
	e.Relaunch(e.Address) // from here on the port stays
	api := e.API()
	list, err := client.ConfigMaps.List(t.Context(), api, "default", metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log ledger
	watchers := make([]*follower, killWatchers)
	var watching sync.WaitGroup
	for i := range watchers {
		watchers[i] = &follower{api: e.API(), from: list.ResourceVersion}
		watching.Go(func() { watchers[i].run(ctx) })
	}
	var writing sync.WaitGroup
	stop := make(chan struct{})
	failures := make(chan error, killWriters)
	for i := range killWriters {
		w := writer{api: e.API(), log: &log, name: fmt.Sprintf("w%d", i), random: rand.New(rand.NewPCG(uint64(i), 7)), have: map[string]int64{}}
		writing.Go(func() {
			if err := w.run(ctx, stop); err != nil {
				failures <- err
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range kills {
		await(t, failures, func() bool { return log.n.Load() >= int64(i*writesAKill+random.IntN(writesAKill)) })
		e.Kill()
		e.Launch()
	}
	await(t, failures, func() bool { return log.n.Load() >= int64(kills*writesAKill) })
	close(stop)
	writing.Wait()
	for _, w := range watchers {
		await(t, failures, func() bool { return w.seen.Load() >= log.n.Load() || w.broken.Load() != nil })
	}
	cancel()
	watching.Wait()
	t.Logf("%d kills in %d writes", kills, log.n.Load())

	final, err := client.ConfigMaps.List(t.Context(), api, "default", metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkFinal(t, log.all, final.Items)
	for i, w := range watchers {
		if err := w.broken.Load(); err != nil {
			t.Errorf("watcher %d: %v", i, *err)
			continue
		}
		checkEvents(t, fmt.Sprintf("watcher %d", i), log.all, w.events)
	}
}

func await(t *testing.T, failures <-chan error, done func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case err := <-failures:
			t.Fatal(err)
		case <-deadline:
			t.Fatal("not done after two minutes")
		case <-tick.C:
		}
	}
}

// writer makes, changes and deletes objects of its own, one write at a time.
type writer struct {
	api    *client.API
	log    *ledger
	name   string
	random *rand.Rand
	have   map[string]int64 // what is there, and its revision
	made   int
}

func (w *writer) run(ctx context.Context, stop <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		seq := fmt.Sprintf("%s-%d", w.name, i)
		if err := w.step(ctx, seq); err != nil {
			return fmt.Errorf("write %s: %w", seq, err)
		}
	}
}

func (w *writer) step(ctx context.Context, seq string) error {
	names := make([]string, 0, len(w.have))
	for name := range w.have {
		names = append(names, name)
	}
	slices.Sort(names)
	dice := w.random.IntN(10)
	switch {
	case len(names) == 0 || dice < 4:
		w.made++
		return w.put(ctx, fmt.Sprintf("%s-%d", w.name, w.made), seq, false)
	case dice < 8:
		return w.put(ctx, names[w.random.IntN(len(names))], seq, true)
	}
	return w.remove(ctx, names[w.random.IntN(len(names))])
}

// whole is an object whose halves say the same.
func whole(name, seq string) *corev1.ConfigMap {
	filler := strings.Repeat("x", 2<<10)
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"a": seq, "m": filler, "z": seq}}
}

func (w *writer) put(ctx context.Context, name, seq string, exists bool) error {
	act := client.ConfigMaps.Create
	if exists {
		act = func(ctx context.Context, api *client.API, obj *corev1.ConfigMap) (*corev1.ConfigMap, error) {
			return client.ConfigMaps.Update(ctx, api, obj)
		}
	}
	got, err := act(ctx, w.api, whole(name, seq))
	if err != nil {
		if got, err = w.after(ctx, name, err); err != nil {
			return err
		}
		if got == nil && !exists || got != nil && got.Data["a"] != seq && revisionOf(got) == w.have[name] {
			return nil // it was not done
		}
		if got == nil {
			return fmt.Errorf("%s is gone", name)
		}
	}
	if got.Data["a"] != seq || got.Data["z"] != seq {
		return fmt.Errorf("%s holds %s and %s, want %s", name, got.Data["a"], got.Data["z"], seq)
	}
	w.have[name] = revisionOf(got)
	w.log.add(written{key: name, rev: w.have[name], seq: seq})
	return nil
}

func (w *writer) remove(ctx context.Context, name string) error {
	if err := client.ConfigMaps.Delete(ctx, w.api, "default", name, metav1.DeleteOptions{}); err != nil {
		got, err := w.after(ctx, name, err)
		if err != nil {
			return err
		}
		if got != nil {
			if revisionOf(got) != w.have[name] {
				return fmt.Errorf("%s is at %s, want %d", name, got.ResourceVersion, w.have[name])
			}
			return nil
		}
	}
	w.log.add(written{key: name, rev: w.have[name], deleted: true})
	delete(w.have, name)
	return nil
}

// after finds out what became of a write whose answer was lost: nil means that the object is not there.
func (w *writer) after(ctx context.Context, name string, cause error) (*corev1.ConfigMap, error) {
	if is, ok := cause.(apierrors.APIStatus); ok && is.Status().Code < 500 { //nolint:errorlint // the client's errors are not wrapped
		return nil, cause
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := client.ConfigMaps.Get(ctx, w.api, "default", name)
		switch {
		case err == nil:
			return got, nil
		case apierrors.IsNotFound(err):
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func revisionOf(obj metav1.Object) int64 {
	rev, err := strconv.ParseInt(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err) // the server wrote it
	}
	return rev
}

// follower watches, and resumes after its last event whenever the watch breaks.
type follower struct {
	api    *client.API
	from   string
	seen   atomic.Int64
	broken atomic.Pointer[error]
	events []event
}

type event struct {
	written
	at int64 // revision
}

func (f *follower) run(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		w, err := client.ConfigMaps.Watch(ctx, f.api, "default", metav1.ListOptions{ResourceVersion: f.from})
		if err != nil {
			if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
				f.fail(fmt.Errorf("resume from %s: %w", f.from, err))
				return
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
			continue
		}
		for e := range w.ResultChan() {
			if !f.take(e) {
				w.Stop()
				return
			}
		}
		w.Stop()
	}
}

func (f *follower) fail(err error) { f.broken.Store(&err) }

func (f *follower) take(e watch.Event) bool {
	if e.Type == watch.Error {
		if err := apierrors.FromObject(e.Object); apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			f.fail(fmt.Errorf("resume from %s: %w", f.from, err))
			return false
		}
		return true // the watch broke: it is begun again
	}
	obj := e.Object.(*corev1.ConfigMap)
	if obj.Data["a"] != obj.Data["z"] {
		f.fail(fmt.Errorf("half of a write: %s holds %s and %s", obj.Name, obj.Data["a"], obj.Data["z"]))
		return false
	}
	f.from = obj.ResourceVersion
	if strings.HasPrefix(obj.Name, "w") {
		f.events = append(f.events, event{written{key: obj.Name, seq: obj.Data["a"], deleted: e.Type == watch.Deleted}, revisionOf(obj)})
		f.seen.Add(1)
	}
	return true
}

// checkEvents compares what a watcher saw with what was written: everything once, in order.
func checkEvents(t *testing.T, who string, log []written, events []event) {
	t.Helper()
	type change struct {
		key string
		rev int64
	}
	puts, deletions := map[change]string{}, map[string]int{}
	last := int64(0)
	for _, e := range events {
		if e.at <= last {
			t.Errorf("%s: revision %d comes after %d", who, e.at, last)
		}
		last = e.at
		if e.deleted {
			deletions[e.key]++
		} else {
			puts[change{e.key, e.at}] = e.seq
		}
	}
	if len(events) != len(log) {
		t.Errorf("%s: %d events for %d writes", who, len(events), len(log))
	}
	for _, w := range log {
		if w.deleted {
			deletions[w.key]--
		} else if puts[change{w.key, w.rev}] != w.seq {
			t.Errorf("%s: missed %+v", who, w)
		}
	}
	for key, n := range deletions {
		if n != 0 {
			t.Errorf("%s: %d deletions of %s too many", who, n, key)
		}
	}
}

// checkFinal compares what is there with what was written last.
func checkFinal(t *testing.T, log []written, items []corev1.ConfigMap) {
	t.Helper()
	want := map[string]written{}
	for _, w := range log { // the writes of one object are in order
		if w.deleted {
			delete(want, w.key)
		} else {
			want[w.key] = w
		}
	}
	for i := range items {
		obj := &items[i]
		if !strings.HasPrefix(obj.Name, "w") {
			continue
		}
		w, ok := want[obj.Name]
		if !ok || obj.Data["a"] != w.seq || obj.Data["z"] != w.seq || revisionOf(obj) != w.rev {
			t.Errorf("%s is at %s with %s and %s, want %+v", obj.Name, obj.ResourceVersion, obj.Data["a"], obj.Data["z"], w)
		}
		delete(want, obj.Name)
	}
	for key, w := range want {
		t.Errorf("%s was acknowledged and is lost: %+v", key, w)
	}
}
