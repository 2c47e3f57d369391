package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/reference"
	"k8s.io/utils/clock"
)

// together is how many events are written at once.
const together = 16

// maxWaiting is how many different events wait to be written: a burst of so many pods bound at once loses none.
const maxWaiting = 16_384

// eventRetry is the pause after the API could not be reached, in which events wait.
const eventRetry = time.Second

// Recorder writes Events about objects. Equal ones are counted up instead of written again, also while they wait, and a
// part that never stops complaining is cut down to a trickle, as client-go's correlator does. Writing never blocks the
// caller: events are written beside it, and when 16,384 different ones wait, further ones are dropped and counted.
type Recorder struct {
	api        *API
	source     corev1.EventSource
	correlator *record.EventCorrelator
	arrived    chan struct{} // holds one when there may be something to write
	dropped    atomic.Uint64

	mu      sync.Mutex
	waiting []*occurrence             // guarded by mu; the oldest first
	known   map[happening]*occurrence // the same; guarded by mu
}

// happening is what makes two events equal.
type happening struct {
	about                      corev1.ObjectReference
	eventtype, reason, message string
}

// occurrence is an event that waits.
type occurrence struct {
	happening
	first, last time.Time
	times       int
}

// NewRecorder makes a recorder for the given component, on host (a node's name, or "").
func NewRecorder(api *API, component, host string) *Recorder {
	return &Recorder{
		api: api, source: corev1.EventSource{Component: component, Host: host}, correlator: record.NewEventCorrelator(clock.RealClock{}),
		arrived: make(chan struct{}, 1), known: map[happening]*occurrence{},
	}
}

// Event records that something happened to obj: eventtype is Normal or Warning, reason one word in camel case.
func (r *Recorder) Event(obj runtime.Object, eventtype, reason, format string, args ...any) {
	about, err := reference.GetReference(scheme(), obj)
	if err != nil { // only for an object of no known kind
		r.dropped.Add(1)
		return
	}
	h := happening{about: *about, eventtype: eventtype, reason: reason, message: fmt.Sprintf(format, args...)}
	h.about.ResourceVersion = "" // of an object that changes while it complains
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.known[h]; o != nil {
		o.times, o.last = o.times+1, now
		return
	}
	if len(r.waiting) >= maxWaiting {
		r.dropped.Add(1)
		return
	}
	o := &occurrence{happening: h, first: now, last: now, times: 1}
	r.waiting, r.known[h] = append(r.waiting, o), o
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

// Dropped is how many events were never written, because too many waited.
func (r *Recorder) Dropped() uint64 { return r.dropped.Load() }

// Run writes what is recorded until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if batch := r.next(); len(batch) > 0 {
			r.write(ctx, batch)
			continue
		}
		select {
		case <-ctx.Done():
		case <-r.arrived:
		}
	}
	return nil
}

// next takes the oldest events, of each object only one: whether the second is to be counted up shows when the first is written.
func (r *Recorder) next() []*occurrence {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < min(together, len(r.waiting)) {
		about := &r.waiting[n].about
		if slices.ContainsFunc(r.waiting[:n], func(o *occurrence) bool { return o.about == *about }) {
			break
		}
		n++
	}
	batch := slices.Clone(r.waiting[:n])
	clear(r.waiting[:n])
	r.waiting = r.waiting[n:]
	for _, o := range batch {
		delete(r.known, o.happening)
	}
	return batch
}

// write puts events into the API. What the API refuses is given up; while it cannot be reached, everything waits.
func (r *Recorder) write(ctx context.Context, batch []*occurrence) {
	var calls []*Call
	for _, o := range batch {
		e, patch := r.correlate(o)
		switch {
		case e == nil: // it complains too often
		case e.Count > 1 && e.ResourceVersion != "":
			r.insist(ctx, e, patch)
		default:
			e.ResourceVersion = ""
			calls = append(calls, &Call{Path: "/api/v1/namespaces/" + e.Namespace + "/events", Body: e, Into: &corev1.Event{}})
		}
	}
	r.api.PostAll(ctx, corev1.SchemeGroupVersion, calls)
	for _, c := range calls {
		if c.Err == nil {
			r.correlator.UpdateState(c.Into.(*corev1.Event))
		} else if unreachable(c.Err) {
			r.insist(ctx, c.Body.(*corev1.Event), nil)
		}
	}
}

// correlate makes the event to be written of what happened; nil when there is none. The patch is for one that is there already.
func (r *Recorder) correlate(o *occurrence) (e *corev1.Event, patch []byte) {
	for range o.times {
		if c, err := r.correlator.EventCorrelate(r.event(o)); err == nil && !c.Skip {
			e, patch = c.Event, c.Patch
		}
	}
	return e, patch
}

// unreachable says that the API may take later what it did not now.
func unreachable(err error) bool {
	var answered apierrors.APIStatus
	return !errors.As(err, &answered) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err)
}

// insist writes an event, however long the API is away.
func (r *Recorder) insist(ctx context.Context, e *corev1.Event, patch []byte) {
	for {
		made, err := r.send(ctx, e, patch)
		if err == nil {
			r.correlator.UpdateState(made)
			return
		}
		if !unreachable(err) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(eventRetry):
		}
	}
}

// send changes the event that is there already, or makes it.
func (r *Recorder) send(ctx context.Context, e *corev1.Event, patch []byte) (*corev1.Event, error) {
	if e.Count > 1 && e.ResourceVersion != "" {
		made, err := Events.Patch(ctx, r.api, e.Namespace, e.Name, types.StrategicMergePatchType, patch)
		if !apierrors.IsNotFound(err) {
			return made, err
		}
	}
	e.ResourceVersion = ""
	return Events.Create(ctx, r.api, e)
}

func (r *Recorder) event(o *occurrence) *corev1.Event {
	namespace := o.about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", o.about.Name, o.first.UnixNano())},
		InvolvedObject: o.about, Type: o.eventtype, Reason: o.reason, Message: o.message,
		FirstTimestamp: metav1.NewTime(o.first), LastTimestamp: metav1.NewTime(o.last), Count: 1,
		Source: r.source, ReportingController: r.source.Component, ReportingInstance: r.source.Host,
	}
}
