// Package queue holds the pods that wait for a node.
//
// A pod is in one of four places: gated, until the pod itself changes, or what its gate says may help; active, to be tried now, in the order of the Sort
// plugin; backing off, for a time that doubles with each failure; or unschedulable, until something happens that one
// of the plugins that refused it says may help, or until MaxWait has passed, so that none is forgotten if a plugin is
// wrong. A pod that is woken still serves its time of backing off, unless nobody else wants to be tried.
//
// Unschedulable pods stand in groups by the plugins that refused them, so that a change that none of these heeds costs
// nothing, however many pods wait.
//
// The queue has one owner and no clock: now comes in as an argument. It is as large as there are pending pods.
package queue

import (
	"container/heap"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/scheduler/framework"
)

// Options are the times of a queue; zero means the default.
type Options struct {
	InitialBackoff time.Duration // default 1 s
	MaxBackoff     time.Duration // default 10 s
	MaxWait        time.Duration // of an unschedulable pod that nothing woke; default 5 min
}

// Arrival is where a pod came to, and what brought it there, under upstream's names of both.
type Arrival struct{ Queue, Event string }

// Queue is the pods that wait. Make it with New.
type Queue struct {
	profiles map[string]*framework.Profile
	options  Options
	entries  map[types.UID]*entry
	active   *places
	eager    *places // backing off, and may be tried early when active is empty
	sleeping *places // backing off and unschedulable, by when they wake
	groups   map[string]*group
	arrivals uint64
	counts   [inFlight + 1]int
	// Arrivals counts the pods that came to a place, for metrics.
	Arrivals map[Arrival]int
}

// group is the unschedulable pods of a profile that the same plugins refused, or that one of them holds at the gate.
type group struct {
	profile string
	names   []string
	plugins []framework.Wakes
	heeds   framework.ChangeKinds
	entries map[types.UID]*entry
}

type place int

const (
	gated place = iota
	active
	backingOff
	unschedulable
	inFlight // popped, and not yet done with
)

type entry struct {
	framework.Queued
	profile *framework.Profile
	where   place
	wakes   time.Time // from backing off, or the end of MaxWait
	backoff time.Time // until when it backs off, wherever it is
	failed  bool      // the last try ended in an error, not in a refusal
	gate    *framework.Status
	group   *group
	index   int    // in its heap
	early   int    // in eager
	number  uint64 // order of arrival
}

// New makes a queue for the given profiles, by scheduler name. Pods of other schedulers are left alone.
func New(profiles []*framework.Profile, o Options) *Queue {
	q := &Queue{profiles: map[string]*framework.Profile{}, options: o, entries: map[types.UID]*entry{}, groups: map[string]*group{}, Arrivals: map[Arrival]int{}}
	for d, otherwise := range map[*time.Duration]time.Duration{
		&q.options.InitialBackoff: time.Second, &q.options.MaxBackoff: 10 * time.Second, &q.options.MaxWait: 5 * time.Minute,
	} {
		if *d == 0 {
			*d = otherwise
		}
	}
	for _, p := range profiles {
		q.profiles[p.Scheduler] = p
	}
	inOrder := func(a, b *entry) bool {
		if a.profile.Sort.Less(&a.Queued, &b.Queued) {
			return true
		}
		return !a.profile.Sort.Less(&b.Queued, &a.Queued) && a.number < b.number
	}
	q.active = &places{less: inOrder, index: func(e *entry) *int { return &e.index }}
	q.eager = &places{less: inOrder, index: func(e *entry) *int { return &e.early }}
	q.sleeping = &places{less: func(a, b *entry) bool { return a.wakes.Before(b.wakes) }, index: func(e *entry) *int { return &e.index }}
	return q
}

// Profile is what schedules a pod; nil when another scheduler does.
func (q *Queue) Profile(pod *corev1.Pod) *framework.Profile {
	return q.profiles[pod.Spec.SchedulerName]
}

// Set adds a pending pod or takes note of a change of it. A change that scheduling reads gives an unschedulable pod
// another try. The verdict of a gate is returned.
func (q *Queue) Set(pod *framework.Pod, now time.Time) *framework.Status {
	profile := q.profiles[pod.Spec.SchedulerName]
	if profile == nil {
		return nil
	}
	e := q.entries[pod.UID]
	fresh := e == nil
	if fresh {
		e = &entry{profile: profile, Queued: framework.Queued{Since: now}, where: -1, index: -1, early: -1, number: q.arrivals}
		q.arrivals++
		q.entries[pod.UID] = e
	}
	changed := !fresh && (e.Generation != pod.Generation || !maps.Equal(e.Labels, pod.Labels) || len(e.Status.ResourceClaimStatuses) != len(pod.Status.ResourceClaimStatuses))
	e.Pod = pod
	if e.where == inFlight {
		return nil // its try goes on with what it began with
	}
	e.gate = gateOf(profile, pod)
	switch {
	case e.gate != nil:
		q.move(e, gated)
	case fresh:
		q.activate(e, now, "PodAdd")
	case e.where == gated, changed:
		q.activate(e, now, "PodUpdate")
	case e.where == active:
		heap.Fix(q.active, e.index)
	}
	return e.gate
}

func gateOf(profile *framework.Profile, pod *framework.Pod) *framework.Status {
	for _, p := range profile.PreEnqueue {
		if no := p.PreEnqueue(pod); no != nil {
			return no
		}
	}
	return nil
}

// Remove forgets a pod: it is gone or has a node.
func (q *Queue) Remove(uid types.UID) {
	if e := q.entries[uid]; e != nil {
		q.take(e)
		delete(q.entries, uid)
	}
}

// Pop returns the next pod to try; nil when none is ready. It must be followed by Remove or Fail for that pod.
func (q *Queue) Pop(now time.Time) *framework.Queued {
	q.wake(now)
	var e *entry
	switch {
	case q.active.Len() > 0:
		e = q.active.entries[0]
	case q.eager.Len() > 0:
		e = q.eager.entries[0]
	default:
		return nil
	}
	q.move(e, inFlight)
	e.Attempts++
	return &e.Queued
}

// Fail puts a popped pod back. With plugins that refused it, it waits for a change that helps; without, for its backoff
// alone.
func (q *Queue) Fail(uid types.UID, refusedBy []string, now time.Time) {
	e := q.entries[uid]
	if e == nil || e.where != inFlight {
		return // gone meanwhile
	}
	e.Rejected, e.Flushed = refusedBy, false
	e.failed = len(refusedBy) == 0
	e.backoff = now.Add(q.pause(e.Attempts))
	if e.gate = gateOf(e.profile, e.Pod); e.gate != nil {
		q.move(e, gated)
		return
	}
	if e.failed {
		e.wakes = e.backoff
		q.arrive(e, backingOff, "ScheduleAttemptFailure")
		return
	}
	e.wakes = now.Add(q.options.MaxWait)
	q.arrive(e, unschedulable, "ScheduleAttemptFailure")
}

func (q *Queue) pause(attempts int) time.Duration {
	d := q.options.InitialBackoff
	for range attempts - 1 {
		if d *= 2; d >= q.options.MaxBackoff {
			return q.options.MaxBackoff
		}
	}
	return min(d, q.options.MaxBackoff)
}

// Heeds says whether a kind of change can help any pod that waits.
func (q *Queue) Heeds(what framework.ChangeKind) bool {
	for _, g := range q.groups {
		if len(g.entries) > 0 && g.heeds.Has(what) {
			return true
		}
	}
	return false
}

// Changed wakes the unschedulable and gated pods that a change may help.
func (q *Queue) Changed(c framework.Change, now time.Time) {
	var woken []*entry
	for _, g := range q.groups {
		if !g.heeds.Has(c.What) {
			continue
		}
		for _, e := range g.entries {
			if slices.ContainsFunc(g.plugins, func(w framework.Wakes) bool { return w.Helps(e.Pod, c) }) {
				woken = append(woken, e)
			}
		}
	}
	for _, e := range woken {
		if e.gate = gateOf(e.profile, e.Pod); e.gate != nil {
			q.move(e, gated)
		} else {
			q.activate(e, now, c.What.String())
		}
	}
}

// Wake gives an unschedulable pod another try.
func (q *Queue) Wake(uid types.UID, now time.Time) {
	if e := q.entries[uid]; e != nil && e.where == unschedulable {
		q.activate(e, now, "EvictionFailure")
	}
}

// activate makes a pod ready to be tried, after the rest of its backoff.
func (q *Queue) activate(e *entry, now time.Time, event string) {
	if e.backoff.After(now) {
		e.wakes = e.backoff
		q.arrive(e, backingOff, event)
		return
	}
	e.Queued.Queued = now
	q.arrive(e, active, event)
}

// arrive is move, counted.
func (q *Queue) arrive(e *entry, to place, event string) {
	q.move(e, to)
	q.Arrivals[Arrival{names[to], event}]++
}

// wake activates those whose time has come.
func (q *Queue) wake(now time.Time) {
	for q.sleeping.Len() > 0 && !q.sleeping.entries[0].wakes.After(now) {
		e := q.sleeping.entries[0]
		event := "BackoffComplete"
		if e.where == unschedulable {
			event, e.Flushed = "UnschedulableTimeout", true
		}
		q.activate(e, now, event)
	}
}

// Next is when a sleeping pod wakes by itself; ok is false when there is none.
func (q *Queue) Next() (at time.Time, ok bool) {
	if q.sleeping.Len() == 0 {
		return time.Time{}, false
	}
	return q.sleeping.entries[0].wakes, true
}

// Waiting describes a pod that waits, for explanations; ok is false when there is none of that name.
func (q *Queue) Waiting(namespace, name string) (w Waiting, ok bool) {
	for _, e := range q.entries {
		if e.Namespace == namespace && e.Name == name {
			return Waiting{Queued: e.Queued, Where: names[e.where], Wakes: e.wakes, Gate: e.gate}, true
		}
	}
	return Waiting{}, false
}

// Waiting is a pod in the queue.
type Waiting struct {
	framework.Queued
	Where string // active, backoff, unschedulable or gated
	Wakes time.Time
	Gate  *framework.Status
}

// names are those of upstream's scheduler_pending_pods metric.
var names = map[place]string{gated: "gated", active: "active", backingOff: "backoff", unschedulable: "unschedulable", inFlight: "active"}

// Refused counts the unschedulable pods of a profile by the plugins that refused them.
func (q *Queue) Refused(f func(profile, plugin string, pods int)) {
	sums := map[[2]string]int{}
	for _, g := range q.groups {
		for _, name := range g.names {
			sums[[2]string{g.profile, name}] += len(g.entries)
		}
	}
	for key, n := range sums {
		f(key[0], key[1], n)
	}
}

// Counts are how many pods are where.
func (q *Queue) Counts() (active, backoff, unschedulables, gates int) {
	return q.counts[1] + q.counts[inFlight], q.counts[backingOff], q.counts[unschedulable], q.counts[gated]
}

func (q *Queue) move(e *entry, to place) {
	q.take(e)
	e.where = to
	q.counts[to]++
	switch to {
	case gated:
		e.Rejected = []string{e.gate.Plugin}
		q.join(e)
	case active:
		heap.Push(q.active, e)
	case backingOff:
		heap.Push(q.sleeping, e)
		if !e.failed {
			heap.Push(q.eager, e)
		}
	case unschedulable:
		heap.Push(q.sleeping, e)
		q.join(e)
	}
}

func (q *Queue) join(e *entry) {
	e.group = q.groupOf(e)
	e.group.entries[e.UID] = e
}

// groupOf finds the group of those that refused a pod. There are at most as many as combinations that occurred.
func (q *Queue) groupOf(e *entry) *group {
	key := e.profile.Scheduler + " " + strings.Join(e.Rejected, " ")
	g := q.groups[key]
	if g == nil {
		g = &group{profile: e.profile.Scheduler, names: e.Rejected, entries: map[types.UID]*entry{}}
		for _, name := range e.Rejected {
			if w := e.profile.Wakes[name]; w != nil {
				g.plugins = append(g.plugins, w)
				g.heeds |= w.Heeds()
			}
		}
		q.groups[key] = g
	}
	return g
}

// take removes e from where it is.
func (q *Queue) take(e *entry) {
	if e.where >= 0 {
		q.counts[e.where]--
	}
	switch e.where {
	case gated:
		delete(e.group.entries, e.UID)
	case active:
		heap.Remove(q.active, e.index)
	case backingOff:
		heap.Remove(q.sleeping, e.index)
		if e.early >= 0 {
			heap.Remove(q.eager, e.early)
		}
	case unschedulable:
		heap.Remove(q.sleeping, e.index)
		delete(e.group.entries, e.UID)
	}
	e.where = -1
}

// places is a heap of entries that know their index.
type places struct {
	entries []*entry
	less    func(a, b *entry) bool
	index   func(e *entry) *int
}

func (p *places) Len() int           { return len(p.entries) }
func (p *places) Less(i, j int) bool { return p.less(p.entries[i], p.entries[j]) }
func (p *places) Swap(i, j int) {
	p.entries[i], p.entries[j] = p.entries[j], p.entries[i]
	*p.index(p.entries[i]), *p.index(p.entries[j]) = i, j
}

func (p *places) Push(x any) {
	e := x.(*entry)
	*p.index(e) = len(p.entries)
	p.entries = append(p.entries, e)
}

func (p *places) Pop() any {
	last := len(p.entries) - 1
	e := p.entries[last]
	p.entries[last] = nil
	p.entries = p.entries[:last]
	*p.index(e) = -1
	return e
}
