// Package model is a cluster for tests of planners: pods that start, fail, and go by chance, a cache that lags behind, a
// memory of own writes, and a controller that is killed between any two writes.
//
// A test plays one controller: it plans from View, writes with Create and Remove, and checks what must always hold
// against the truth. Everything follows from the seed, so that a failing one replays.
package model

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/ledger"
	"hardway/controllers/podstate"
)

// Seeds are those that a test has to try: HARDWAY_SEEDS=n tries more, HARDWAY_SEED=n replays one.
func Seeds() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		if one, err := strconv.ParseUint(os.Getenv("HARDWAY_SEED"), 10, 64); err == nil {
			yield(one)
			return
		}
		n, err := strconv.ParseUint(os.Getenv("HARDWAY_SEEDS"), 10, 64)
		if err != nil {
			n = 150
		}
		for seed := range n {
			if !yield(seed) {
				return
			}
		}
	}
}

// Owner is the uid of the only owner.
const Owner = types.UID("owner")

// World is a cluster. Truth is what the server has.
type World struct {
	*rand.Rand
	Now   time.Time
	Truth map[string]*corev1.Pod
	// Nodes are the names that pods are bound to, at random, when they start; those with a node stay.
	Nodes []string
	// Ends is the chance in a hundred that a running pod ends by itself in one step; Unready that it stops being ready.
	Ends, Unready int
	// Finish lets a pod that ends succeed; otherwise it fails.
	Finish bool
	Log    []string

	cache map[string]*corev1.Pod
	book  *ledger.Book
	next  int
	held  time.Time // until then no news come
	fuel  int       // writes that are left until the controller is killed; negative: it is not
}

// New makes an empty world.
func New(seed uint64) *World {
	return &World{
		Rand: rand.New(rand.NewPCG(seed, 0)), Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Truth: map[string]*corev1.Pod{}, cache: map[string]*corev1.Pod{}, book: ledger.New(), fuel: -1,
	}
}

func (w *World) note(format string, args ...any) {
	w.Log = append(w.Log, fmt.Sprintf("%s ", w.Now.Format("15:04:05"))+fmt.Sprintf(format, args...))
}

// late is for how long the watches are held up now and then: longer than anything that a controller remembers by the clock.
const late = 6 * time.Minute

// Step lets a second or some pass: pods move on, and the cache perhaps catches up.
func (w *World) Step() {
	w.Now = w.Now.Add(time.Duration(1+w.IntN(4)) * time.Second)
	for _, name := range slices.Sorted(maps.Keys(w.Truth)) {
		w.move(name)
	}
	switch {
	case w.Now.Before(w.held):
	case w.IntN(150) == 0:
		w.note("the watches are held up for %v", late)
		w.held = w.Now.Add(late)
	case w.IntN(3) == 0:
		w.CatchUp()
	}
}

func (w *World) move(name string) {
	pod := w.Truth[name].DeepCopy()
	chance := w.IntN(100)
	switch {
	case pod.DeletionTimestamp != nil:
		if chance < 40 && len(pod.Finalizers) == 0 {
			delete(w.Truth, name)
			w.note("%s is gone", name)
			return
		}
		if chance < 60 && !podstate.Terminal(pod) && len(pod.Finalizers) > 0 {
			w.end(pod)
		}
	case podstate.Terminal(pod):
	case pod.Status.Phase != corev1.PodRunning:
		if chance < 50 {
			if pod.Spec.NodeName == "" && len(w.Nodes) > 0 {
				pod.Spec.NodeName = w.Nodes[w.IntN(len(w.Nodes))]
			}
			pod.Status.Phase = corev1.PodRunning
			w.ready(pod, true)
		}
	case chance < w.Ends:
		w.end(pod)
	case chance < w.Ends+w.Unready:
		w.ready(pod, !podstate.Ready(pod))
	case !podstate.Ready(pod) && chance > 80:
		w.ready(pod, true)
	default:
		return
	}
	w.Truth[name] = pod
}

func (w *World) end(pod *corev1.Pod) {
	pod.Status.Phase = corev1.PodFailed
	if w.Finish && w.IntN(4) > 0 {
		pod.Status.Phase = corev1.PodSucceeded
	}
	w.ready(pod, false)
	w.note("%s: %s", pod.Name, pod.Status.Phase)
}

func (w *World) ready(pod *corev1.Pod, yes bool) {
	status := corev1.ConditionFalse
	if yes {
		status = corev1.ConditionTrue
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(w.Now)}}
}

// CatchUp brings the cache up to date.
func (w *World) CatchUp() { w.cache = maps.Clone(w.Truth) }

// Kill starts another controller: it remembers nothing and has listed afresh.
func (w *World) Kill() {
	w.note("the controller is killed")
	w.held = time.Time{}
	w.book.Clear()
	w.CatchUp()
	w.fuel = -1
}

// Pass runs one pass of the controller. Sometimes it is killed after a few writes, and Pass says so.
func (w *World) Pass(f func()) (killed bool) {
	if w.IntN(20) == 0 {
		w.fuel = w.IntN(4)
	}
	f()
	killed = w.fuel >= 0
	if killed {
		w.Kill()
	}
	return killed
}

// mayWrite reports whether the controller still lives.
func (w *World) mayWrite() bool {
	if w.fuel == 0 {
		return false
	}
	if w.fuel > 0 {
		w.fuel--
	}
	return true
}

// View is what the controller sees: the cached pods, those of them that it did not delete already, and its creations
// that the cache does not show, by name with their notes.
func (w *World) View() (all, living []*corev1.Pod, unseen map[string]string) {
	shown := map[types.UID]bool{}
	for _, name := range slices.Sorted(maps.Keys(w.cache)) {
		pod := w.cache[name]
		all = append(all, pod)
		shown[pod.UID] = pod.DeletionTimestamp == nil
	}
	unseen, err := w.book.Settle(Owner, func(name string) bool { return w.cache[name] != nil },
		func(name string) (bool, error) { return w.Truth[name] != nil, nil }, w.Now)
	if err != nil {
		panic(err) // the question above has no error
	}
	gone := w.book.Gone(Owner, func(uid types.UID) bool { return shown[uid] })
	for _, pod := range all {
		if !gone[pod.UID] {
			living = append(living, pod)
		}
	}
	return all, living, unseen
}

// Create stores a pod. It reports false when the name is taken or the controller is dead by now. Sometimes the answer is
// lost: the pod is there and the controller does not know.
func (w *World) Create(pod *corev1.Pod, note string) bool {
	if !w.mayWrite() {
		return false
	}
	w.book.Creating(Owner, pod.Name, note, w.Now)
	if w.Truth[pod.Name] != nil {
		w.book.NotCreated(Owner, pod.Name)
		return false
	}
	w.next++
	made := pod.DeepCopy()
	made.UID, made.CreationTimestamp = types.UID(fmt.Sprint("pod-", w.next)), metav1.NewTime(w.Now)
	made.Status.Phase = corev1.PodPending
	w.Truth[pod.Name] = made
	w.note("%s is created (%s)", pod.Name, made.UID)
	return w.IntN(10) > 0
}

// Remove deletes a pod; another one by that name stays.
func (w *World) Remove(pod *corev1.Pod) {
	if !w.mayWrite() {
		return
	}
	w.book.Deleted(Owner, pod.UID, w.Now)
	have := w.Truth[pod.Name]
	if have == nil || have.UID != pod.UID || have.DeletionTimestamp != nil {
		return
	}
	w.note("%s is deleted (%s)", pod.Name, pod.UID)
	out := have.DeepCopy()
	out.DeletionTimestamp = &metav1.Time{Time: w.Now}
	w.Truth[pod.Name] = out
}

// Change rewrites a pod as it is in truth, as a patch does; it reports false when it is gone or another one, or the
// controller is dead by now.
func (w *World) Change(pod *corev1.Pod, f func(*corev1.Pod)) bool {
	have := w.Truth[pod.Name]
	if have == nil || have.UID != pod.UID || !w.mayWrite() {
		return false
	}
	out := have.DeepCopy()
	f(out)
	w.Truth[pod.Name] = out
	return true
}

// Write counts a write of something that is no pod, and reports whether the controller was alive to do it.
func (w *World) Write() bool { return w.mayWrite() }

// Living returns the pods in truth that count.
func (w *World) Living() []*corev1.Pod {
	var out []*corev1.Pod
	for _, name := range slices.Sorted(maps.Keys(w.Truth)) {
		if podstate.Active(w.Truth[name]) {
			out = append(out, w.Truth[name])
		}
	}
	return out
}

// Tail is the end of what happened.
func (w *World) Tail() []string { return w.Log[max(0, len(w.Log)-30):] }
