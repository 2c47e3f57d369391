package client

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestEventsWaitWithinBounds records more than can wait while nothing is written.
func TestEventsWaitWithinBounds(t *testing.T) {
	r := NewRecorder(nil, "test", "")
	about := func(i int) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint(i)), ResourceVersion: fmt.Sprint(i)}}
	}
	for i := range maxWaiting + 5 {
		r.Event(about(i), corev1.EventTypeNormal, "Scheduled", "to %s", "n")
	}
	same := about(0)
	same.ResourceVersion = "99"
	r.Event(same, corev1.EventTypeNormal, "Scheduled", "to %s", "n") // counts up what waits already
	if len(r.waiting) != maxWaiting || r.Dropped() != 5 {
		t.Errorf("%d wait and %d were dropped, want %d and 5", len(r.waiting), r.Dropped(), maxWaiting)
	}
	batch := r.next()
	if o := batch[0]; len(batch) != together || o.times != 2 || o.about.Name != "p0" {
		t.Errorf("%d are next, the first is %s, %d times, want p0 twice", len(batch), o.about.Name, o.times)
	}
	r.Event(about(maxWaiting+9), corev1.EventTypeNormal, "Scheduled", "to %s", "n")
	if r.Dropped() != 5 {
		t.Error("dropped though there was room again")
	}
}

// TestOneEventOfAnObjectAtATime lets the second of an object wait until the first is written, so that it can be counted up.
func TestOneEventOfAnObjectAtATime(t *testing.T) {
	r := NewRecorder(nil, "test", "")
	for i, name := range []string{"a", "b", "a", "c"} {
		r.Event(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}, corev1.EventTypeNormal, "Said", "%d", i)
	}
	for _, want := range []int{2, 2, 0} {
		if batch := r.next(); len(batch) != want {
			t.Errorf("%d are next, want %d", len(batch), want)
		}
	}
}

// BenchmarkEvent is what recording costs the caller.
func BenchmarkEvent(b *testing.B) {
	r := NewRecorder(nil, "scheduler", "")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}}
	for b.Loop() {
		r.Event(pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s to %s", "default/a", "n1")
	}
}
