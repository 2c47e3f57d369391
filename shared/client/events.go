package client

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
)

// Recorder writes Events about objects. Equal ones are counted up instead of written again, and a part that never
// stops complaining is cut down to a trickle, as client-go's correlator does. Writing never blocks the caller: at
// 1,000 events in the queue further ones are dropped.
type Recorder struct {
	api         *API
	broadcaster record.EventBroadcaster
	record.EventRecorder
}

// NewRecorder makes a recorder for the given component, on host (a node's name, or "").
func NewRecorder(api *API, component, host string) *Recorder {
	b := record.NewBroadcaster()
	return &Recorder{api: api, broadcaster: b, EventRecorder: b.NewRecorder(Scheme(), corev1.EventSource{Component: component, Host: host})}
}

// Event records that something happened to obj: eventtype is Normal or Warning, reason one word in camel case.
func (r *Recorder) Event(obj runtime.Object, eventtype, reason, format string, args ...any) {
	r.EventRecorder.Event(obj, eventtype, reason, fmt.Sprintf(format, args...))
}

// Run sends what is recorded until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	sending := r.broadcaster.StartRecordingToSink(&sink{ctx: ctx, api: r.api})
	<-ctx.Done()
	sending.Stop()
	r.broadcaster.Shutdown()
	return nil
}

// sink implements record.EventSink over the typed client.
type sink struct {
	ctx context.Context //nolint:containedctx // the interface has no room for one
	api *API
}

func (s *sink) Create(e *corev1.Event) (*corev1.Event, error) {
	made, err := Events.Create(s.ctx, s.api, e)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return e, nil // what happens while a namespace ends is of no interest after it
	}
	return made, err
}
func (s *sink) Update(e *corev1.Event) (*corev1.Event, error) { return Events.Update(s.ctx, s.api, e) }
func (s *sink) Patch(old *corev1.Event, data []byte) (*corev1.Event, error) {
	return Events.Patch(s.ctx, s.api, old.Namespace, old.Name, types.StrategicMergePatchType, data)
}
