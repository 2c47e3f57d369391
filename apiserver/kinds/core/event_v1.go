package core

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/resource"
)

// eventsV1 serves the stored events as events.k8s.io/v1: the same facts under other names.
func eventsV1() resource.Version {
	return resource.Version{
		Names: resource.Names{
			Group: "events.k8s.io", Version: "v1", Kind: "Event", List: "EventList",
			Plural: "events", Singular: "event", Short: []string{"ev"},
		},
		New:        func() runtime.Object { return &eventsv1.Event{} },
		NewList:    func() runtime.Object { return &eventsv1.EventList{} },
		ToStorage:  eventToStorage,
		FromStored: eventFromStored,
		Validate:   validateEventsV1,
		Fields: map[string]string{
			"reason":                    "reason",
			"regarding.kind":            "involvedObject.kind",
			"regarding.namespace":       "involvedObject.namespace",
			"regarding.name":            "involvedObject.name",
			"regarding.uid":             "involvedObject.uid",
			"regarding.apiVersion":      "involvedObject.apiVersion",
			"regarding.resourceVersion": "involvedObject.resourceVersion",
			"regarding.fieldPath":       "involvedObject.fieldPath",
			"reportingController":       "reportingComponent",
			"type":                      "type",
		},
	}
}

func eventToStorage(in runtime.Object) (resource.Object, error) {
	e, ok := in.(*eventsv1.Event)
	if !ok {
		return nil, fmt.Errorf("convert %T to core/v1 Event: not an events.k8s.io/v1 Event", in)
	}
	out := &corev1.Event{
		ObjectMeta:          e.ObjectMeta,
		InvolvedObject:      e.Regarding,
		Reason:              e.Reason,
		Message:             e.Note,
		Source:              e.DeprecatedSource,
		FirstTimestamp:      e.DeprecatedFirstTimestamp,
		LastTimestamp:       e.DeprecatedLastTimestamp,
		Count:               e.DeprecatedCount,
		Type:                e.Type,
		EventTime:           e.EventTime,
		Action:              e.Action,
		Related:             e.Related,
		ReportingController: e.ReportingController,
		ReportingInstance:   e.ReportingInstance,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out, nil
}

func eventFromStored(in resource.Object) (runtime.Object, error) {
	e, ok := in.(*corev1.Event)
	if !ok {
		return nil, fmt.Errorf("convert %T to events.k8s.io/v1 Event: not a core/v1 Event", in)
	}
	out := &eventsv1.Event{
		ObjectMeta:               e.ObjectMeta,
		EventTime:                e.EventTime,
		ReportingController:      e.ReportingController,
		ReportingInstance:        e.ReportingInstance,
		Action:                   e.Action,
		Reason:                   e.Reason,
		Regarding:                e.InvolvedObject,
		Related:                  e.Related,
		Note:                     e.Message,
		Type:                     e.Type,
		DeprecatedSource:         e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp,
		DeprecatedLastTimestamp:  e.LastTimestamp,
		DeprecatedCount:          e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out, nil
}

// validateEventsV1 holds what is sent as events.k8s.io/v1 to that version's stricter rules: complete at create, and
// nothing but the series may change later.
func validateEventsV1(obj, old resource.Object) field.ErrorList {
	e := obj.(*corev1.Event)
	if old == nil {
		return validateEventsV1Create(e)
	}
	was := old.(*corev1.Event)
	var errs field.ErrorList
	if !equality.Semantic.DeepEqual(e.Series, was.Series) {
		errs = append(errs, validateSeries(e)...)
	}
	for _, f := range []struct {
		name     string
		now, old any
	}{
		{"involvedObject", e.InvolvedObject, was.InvolvedObject},
		{"reason", e.Reason, was.Reason},
		{"message", e.Message, was.Message},
		{"source", e.Source, was.Source},
		{"firstTimestamp", e.FirstTimestamp, was.FirstTimestamp},
		{"lastTimestamp", e.LastTimestamp, was.LastTimestamp},
		{"count", e.Count, was.Count},
		{"type", e.Type, was.Type},
		// The wire keeps microseconds.
		{"eventTime", micro(e.EventTime), micro(was.EventTime)},
		{"action", e.Action, was.Action},
		{"related", e.Related, was.Related},
		{"reportingController", e.ReportingController, was.ReportingController},
		{"reportingInstance", e.ReportingInstance, was.ReportingInstance},
	} {
		errs = append(errs, check.Immutable(f.now, f.old, field.NewPath(f.name))...)
	}
	return errs
}

func micro(t metav1.MicroTime) metav1.MicroTime {
	return metav1.NewMicroTime(t.Truncate(time.Microsecond))
}

func validateEventsV1Create(e *corev1.Event) field.ErrorList {
	errs := validateSeries(e)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"firstTimestamp", !e.FirstTimestamp.IsZero()},
		{"lastTimestamp", !e.LastTimestamp.IsZero()},
		{"count", e.Count != 0},
		{"source", e.Source != corev1.EventSource{}},
	} {
		if f.set {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", "needs to be unset"))
		}
	}
	return errs
}

func validateSeries(e *corev1.Event) field.ErrorList {
	if e.Series == nil {
		return nil
	}
	var errs field.ErrorList
	if e.Series.Count < 2 {
		errs = append(errs, field.Invalid(field.NewPath("series.count"), "", "should be at least 2"))
	}
	if e.Series.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("series.lastObservedTime"), ""))
	}
	return errs
}
