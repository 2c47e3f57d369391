package client

import (
	"context"
	"errors"
	"fmt"
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

// maxWaiting is how many different events wait to be written: a burst of so many pods bound at once loses none.
const maxWaiting = 16_384

// eventRetry is the pause after the API could not be reached, in which events wait.
const eventRetry = time.Second

// Recorder writes Events about objects. Equal ones are counted up instead of written again, also while they wait, and a
// part that never stops complaining is cut down to a trickle, as client-go's correlator does. Writing never blocks the
// caller: one event after the other is written beside it, and when 16,384 different ones wait, further ones are dropped and counted.
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
		if o := r.next(); o != nil {
			r.write(ctx, o)
			continue
		}
		select {
		case <-ctx.Done():
		case <-r.arrived:
		}
	}
	return nil
}

func (r *Recorder) next() *occurrence {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return nil
	}
	o := r.waiting[0]
	r.waiting[0] = nil
	r.waiting = r.waiting[1:]
	delete(r.known, o.happening)
	return o
}

// write puts an event into the API. What the API refuses is given up; while it cannot be reached, everything waits.
func (r *Recorder) write(ctx context.Context, o *occurrence) {
	var e *corev1.Event
	var patch []byte
	for range o.times {
		if c, err := r.correlator.EventCorrelate(r.event(o)); err == nil && !c.Skip {
			e, patch = c.Event, c.Patch
		}
	}
	if e == nil {
		return // it complains too often
	}
	for {
		made, err := r.send(ctx, e, patch)
		if err == nil {
			r.correlator.UpdateState(made)
			return
		}
		var answered apierrors.APIStatus
		if errors.As(err, &answered) && !apierrors.IsTooManyRequests(err) && !apierrors.IsServiceUnavailable(err) {
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
