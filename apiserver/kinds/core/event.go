package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// eventSeconds is how long an Event is kept.
const eventSeconds = 60 * 60

// The longest texts of an Event, in bytes.
const (
	maxEventWord = 128
	maxEventNote = 1024
)

// Event is a report that something happened to an object. Clients write it as core/v1 or as events.k8s.io/v1; it is
// stored as core/v1.
var Event = resource.Define(scheme.Types, resource.Spec[corev1.Event]{
	Names:                    resource.Names{Version: "v1", Kind: "Event", Plural: "events", Short: []string{"ev"}},
	Scope:                    resource.Namespaced,
	Validate:                 validateEvent,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,
	TTL:                      func(*corev1.Event) int64 { return eventSeconds },
	Fields:                   eventFields(),
	Columns:                  eventColumns(),
	Versions:                 []resource.Version{eventsV1()},
})

func eventFields() map[string]func(*corev1.Event) string {
	return map[string]func(*corev1.Event) string{
		"involvedObject.kind":            func(e *corev1.Event) string { return e.InvolvedObject.Kind },
		"involvedObject.namespace":       func(e *corev1.Event) string { return e.InvolvedObject.Namespace },
		"involvedObject.name":            func(e *corev1.Event) string { return e.InvolvedObject.Name },
		"involvedObject.uid":             func(e *corev1.Event) string { return string(e.InvolvedObject.UID) },
		"involvedObject.apiVersion":      func(e *corev1.Event) string { return e.InvolvedObject.APIVersion },
		"involvedObject.resourceVersion": func(e *corev1.Event) string { return e.InvolvedObject.ResourceVersion },
		"involvedObject.fieldPath":       func(e *corev1.Event) string { return e.InvolvedObject.FieldPath },
		"reason":                         func(e *corev1.Event) string { return e.Reason },
		"reportingComponent":             func(e *corev1.Event) string { return e.ReportingController },
		"source":                         func(e *corev1.Event) string { return show.Or(e.Source.Component, e.ReportingController) },
		"type":                           func(e *corev1.Event) string { return e.Type },
	}
}

// validateEvent tells events of the new kind by their eventTime: those must be complete, the old ones need only stand
// in the namespace of what they are about.
func validateEvent(e *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	about := field.NewPath("involvedObject", "namespace")
	mismatch := field.Invalid(about, e.InvolvedObject.Namespace, "does not match event.namespace")
	if e.EventTime.IsZero() {
		clusterWide := e.InvolvedObject.Namespace == "" && (e.Namespace == metav1.NamespaceNone || e.Namespace == metav1.NamespaceDefault)
		if !clusterWide && e.Namespace != e.InvolvedObject.Namespace {
			errs = append(errs, mismatch)
		}
	} else {
		if e.InvolvedObject.Namespace == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
			errs = append(errs, mismatch)
		}
		errs = append(errs, validateEventWords(e)...)
	}
	return append(errs, check.Subdomain(e.Namespace, field.NewPath("namespace"))...)
}

func validateEventWords(e *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	reporter := field.NewPath("reportingComponent")
	if e.ReportingController == "" {
		errs = append(errs, field.Required(reporter, ""))
	}
	errs = append(errs, check.QualifiedName(e.ReportingController, reporter)...)
	for _, word := range []struct{ name, value string }{
		{"reportingInstance", e.ReportingInstance}, {"action", e.Action}, {"reason", e.Reason},
	} {
		path := field.NewPath(word.name)
		if word.value == "" {
			errs = append(errs, field.Required(path, ""))
		}
		if len(word.value) > maxEventWord {
			errs = append(errs, field.Invalid(path, "", fmt.Sprintf("can have at most %v characters", maxEventWord)))
		}
	}
	if len(e.Message) > maxEventNote {
		errs = append(errs, field.Invalid(field.NewPath("message"), "", fmt.Sprintf("can have at most %v characters", maxEventNote)))
	}
	return errs
}

func eventColumns() []resource.Column[corev1.Event] {
	doc := corev1.Event{}.SwaggerDoc()
	return []resource.Column[corev1.Event]{
		{Name: "Last Seen", Describe: doc["lastTimestamp"], Value: func(e *corev1.Event) any { return lastSeen(e) }},
		{Name: "Type", Describe: doc["type"], Value: func(e *corev1.Event) any { return e.Type }},
		{Name: "Reason", Describe: doc["reason"], Value: func(e *corev1.Event) any { return e.Reason }},
		{Name: "Object", Describe: doc["involvedObject"], Value: showInvolved},
		{Name: "Subobject", Wide: true, Describe: corev1.ObjectReference{}.SwaggerDoc()["fieldPath"], Value: func(e *corev1.Event) any { return e.InvolvedObject.FieldPath }},
		{Name: "Source", Wide: true, Describe: doc["source"], Value: showEventSource},
		{Name: "Message", Describe: doc["message"], Value: func(e *corev1.Event) any { return strings.TrimSpace(e.Message) }},
		{Name: "First Seen", Wide: true, Describe: doc["firstTimestamp"], Value: func(e *corev1.Event) any { return firstSeen(e) }},
		{Name: "Count", Wide: true, Describe: doc["count"], Value: showEventCount},
		{Name: "Name", Wide: true, Format: "name", Describe: metav1.ObjectMeta{}.SwaggerDoc()["name"], Value: func(e *corev1.Event) any { return e.Name }},
	}
}

func firstSeen(e *corev1.Event) string {
	if e.FirstTimestamp.IsZero() {
		return show.Since(e.EventTime.Time)
	}
	return show.Since(e.FirstTimestamp.Time)
}

func lastSeen(e *corev1.Event) string {
	switch {
	case e.Series != nil:
		return show.Since(e.Series.LastObservedTime.Time)
	case e.LastTimestamp.IsZero():
		return firstSeen(e)
	}
	return show.Since(e.LastTimestamp.Time)
}

func showEventCount(e *corev1.Event) any {
	switch {
	case e.Series != nil:
		return int64(e.Series.Count)
	case e.Count == 0: // a single event of the new kind
		return int64(1)
	}
	return int64(e.Count)
}

func showInvolved(e *corev1.Event) any {
	kind := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name == "" {
		return kind
	}
	return kind + "/" + e.InvolvedObject.Name
}

func showEventSource(e *corev1.Event) any {
	component, host := show.Or(e.Source.Component, e.ReportingController), show.Or(e.Source.Host, e.ReportingInstance)
	if host == "" {
		return component
	}
	return component + ", " + host
}
