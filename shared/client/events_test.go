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
	if o := r.next(); o.times != 2 || o.about.Name != "p0" {
		t.Errorf("the first is %s, %d times, want p0 twice", o.about.Name, o.times)
	}
	r.Event(about(maxWaiting+9), corev1.EventTypeNormal, "Scheduled", "to %s", "n")
	if r.Dropped() != 5 {
		t.Error("dropped though there was room again")
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
