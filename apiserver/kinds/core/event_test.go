package core

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestEventsV1(t *testing.T) {
	good := func() *eventsv1.Event {
		return &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns"}, EventTime: metav1.NowMicro(),
			ReportingController: "example.com/c", ReportingInstance: "c-0", Action: "Act", Reason: "Why", Note: "what", Type: "Normal",
			Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "web"},
		}
	}
	for want, change := range map[string]func(*eventsv1.Event){
		"":                              func(*eventsv1.Event) {},
		"eventTime: Required value":     func(e *eventsv1.Event) { e.EventTime = metav1.MicroTime{} },
		"has invalid value: Odd":        func(e *eventsv1.Event) { e.Type = "Odd" },
		"count: Invalid value":          func(e *eventsv1.Event) { e.DeprecatedCount = 1 },
		"source: Invalid value":         func(e *eventsv1.Event) { e.DeprecatedSource.Component = "x" },
		"firstTimestamp: Invalid value": func(e *eventsv1.Event) { e.DeprecatedFirstTimestamp = metav1.Now() },
		"should be at least 2": func(e *eventsv1.Event) {
			e.Series = &eventsv1.EventSeries{Count: 1, LastObservedTime: metav1.NowMicro()}
		},
		"message: Invalid value": func(e *eventsv1.Event) { e.Note = strings.Repeat("x", 1025) },
		"action: Required value": func(e *eventsv1.Event) { e.Action = "" },
	} {
		t.Run(want, func(t *testing.T) {
			e := good()
			change(e)
			stored, err := eventToStorage(e)
			if err != nil {
				t.Fatal(err)
			}
			errs := append(validateEvent(stored.(*corev1.Event)), validateEventsV1(stored, nil)...).ToAggregate()
			if (errs == nil) != (want == "") || errs != nil && !strings.Contains(errs.Error(), want) {
				t.Errorf("errors %v", errs)
			}
		})
	}
	old, err := eventToStorage(good())
	if err != nil {
		t.Fatal(err)
	}
	now := old.(*corev1.Event).DeepCopy()
	now.Series = &corev1.EventSeries{Count: 2, LastObservedTime: metav1.NowMicro()}
	now.EventTime.Time = now.EventTime.Truncate(time.Microsecond)
	if errs := validateEventsV1(now, old); len(errs) > 0 {
		t.Errorf("a series is not allowed: %v", errs)
	}
	now.Message = "other"
	if errs := validateEventsV1(now, old); len(errs) != 1 || errs[0].Field != "message" {
		t.Errorf("errors %v", errs)
	}
}
