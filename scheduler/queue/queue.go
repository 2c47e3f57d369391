// Package queue holds the pods that wait for a node.
//
// A pod is in one of four places: gated, until the pod itself changes; active, to be tried now, in the order of the Sort
// plugin; backing off, for a time that doubles with each failure; or unschedulable, until something happens that one
// of the plugins that refused it says may help, or until MaxWait has passed, so that none is forgotten if a plugin is
// wrong. A pod that is woken still serves its time of backing off.
//
// The queue has one owner and no clock: now comes in as an argument. It is as large as there are pending pods.
package queue

import (
	"container/heap"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"hardway/scheduler/framework"
)

// Options are the times of a queue; zero means the default.
type Options struct {
	InitialBackoff time.Duration // default 1 s
	MaxBackoff     time.Duration // default 10 s
	MaxWait        time.Duration // of an unschedulable pod that nothing woke; default 5 min
}

// Queue is the pods that wait. Make it with New.
type Queue struct {
	profiles map[string]*framework.Profile
	options  Options
	entries  map[types.UID]*entry
	active   *places
	sleeping *places // backing off and unschedulable, by when they wake
	arrivals uint64
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
	gate    *framework.Status
	index   int    // in its heap
	number  uint64 // order of arrival
}

// New makes a queue for the given profiles, by scheduler name. Pods of other schedulers are left alone.
func New(profiles []*framework.Profile, o Options) *Queue {
	q := &Queue{profiles: map[string]*framework.Profile{}, options: o, entries: map[types.UID]*entry{}}
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
	q.active = &places{less: func(a, b *entry) bool {
		if a.profile.Sort.Less(&a.Queued, &b.Queued) {
			return true
		}
		return !a.profile.Sort.Less(&b.Queued, &a.Queued) && a.number < b.number
	}}
	q.sleeping = &places{less: func(a, b *entry) bool { return a.wakes.Before(b.wakes) }}
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
		e = &entry{profile: profile, Queued: framework.Queued{Since: now}, number: q.arrivals}
		q.arrivals++
		q.entries[pod.UID] = e
	}
	changed := !fresh && (e.Signature != pod.Signature || e.Priority != pod.Priority ||
		!equality.Semantic.DeepEqual(e.Spec.SchedulingGates, pod.Spec.SchedulingGates))
	e.Pod = pod
	if e.where == inFlight && !fresh {
		return nil // its try goes on with what it began with
	}
	e.gate = gateOf(profile, pod)
	switch {
	case e.gate != nil:
		q.move(e, gated)
	case fresh, e.where == gated, changed:
		q.activate(e, now)
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
	if q.active.Len() == 0 {
		return nil
	}
	e := q.active.entries[0]
	q.take(e)
	e.where = inFlight
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
	e.Rejected = refusedBy
	e.backoff = now.Add(q.pause(e.Attempts))
	if len(refusedBy) > 0 {
		e.wakes = now.Add(q.options.MaxWait)
		q.move(e, unschedulable)
		return
	}
	e.wakes = e.backoff
	q.move(e, backingOff)
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

// Changed wakes the unschedulable pods that a change may help.
func (q *Queue) Changed(c framework.Change, now time.Time) {
	for _, e := range slices.Clone(q.sleeping.entries) {
		if e.where != unschedulable || !helps(e, c) {
			continue
		}
		q.activate(e, now)
	}
}

func helps(e *entry, c framework.Change) bool {
	return slices.ContainsFunc(e.Rejected, func(name string) bool {
		w := e.profile.Wakes[name]
		return w != nil && w.Helps(e.Pod, c)
	})
}

// activate makes a pod ready to be tried, after the rest of its backoff.
func (q *Queue) activate(e *entry, now time.Time) {
	if e.backoff.After(now) {
		e.wakes = e.backoff
		q.move(e, backingOff)
		return
	}
	e.Queued.Queued = now
	q.move(e, active)
}

// wake activates those whose time has come.
func (q *Queue) wake(now time.Time) {
	for q.sleeping.Len() > 0 && !q.sleeping.entries[0].wakes.After(now) {
		q.activate(q.sleeping.entries[0], now)
	}
}

// Next is when a sleeping pod wakes by itself; ok is false when there is none.
func (q *Queue) Next() (at time.Time, ok bool) {
	if q.sleeping.Len() == 0 {
		return time.Time{}, false
	}
	return q.sleeping.entries[0].wakes, true
}

// Counts are how many pods are where, by the names of upstream's scheduler_pending_pods metric.
func (q *Queue) Counts() map[string]int {
	n := map[string]int{"active": 0, "backoff": 0, "unschedulable": 0, "gated": 0}
	for _, e := range q.entries {
		switch e.where {
		case gated:
			n["gated"]++
		case backingOff:
			n["backoff"]++
		case unschedulable:
			n["unschedulable"]++
		default:
			n["active"]++
		}
	}
	return n
}

func (q *Queue) move(e *entry, to place) {
	q.take(e)
	e.where = to
	switch to {
	case active:
		heap.Push(q.active, e)
	case backingOff, unschedulable:
		heap.Push(q.sleeping, e)
	}
}

// take removes e from its heap.
func (q *Queue) take(e *entry) {
	for _, h := range []*places{q.active, q.sleeping} {
		if e.index < h.Len() && h.entries[e.index] == e {
			heap.Remove(h, e.index)
			return
		}
	}
}

// places is a heap of entries that know their index.
type places struct {
	entries []*entry
	less    func(a, b *entry) bool
}

func (p *places) Len() int           { return len(p.entries) }
func (p *places) Less(i, j int) bool { return p.less(p.entries[i], p.entries[j]) }
func (p *places) Swap(i, j int) {
	p.entries[i], p.entries[j] = p.entries[j], p.entries[i]
	p.entries[i].index, p.entries[j].index = i, j
}

func (p *places) Push(x any) {
	e := x.(*entry)
	e.index = len(p.entries)
	p.entries = append(p.entries, e)
}

func (p *places) Pop() any {
	last := len(p.entries) - 1
	e := p.entries[last]
	p.entries[last] = nil
	p.entries = p.entries[:last]
	return e
}
