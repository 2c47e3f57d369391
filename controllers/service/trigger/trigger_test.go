package trigger

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLast(t *testing.T) {
	at := func(minute int) metav1.Time { return metav1.NewTime(time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC)) }
	pod := func(name string, minute int) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, LastTransitionTime: at(minute)}}}}
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", CreationTimestamp: at(1)}}
	times := New()
	for i, step := range []struct {
		pods []*corev1.Pod
		want metav1.Time
	}{
		{nil, at(1)},         // created
		{nil, metav1.Time{}}, // nothing new
		{[]*corev1.Pod{pod("a", 5), pod("b", 3)}, at(3)}, // the earliest of two
		{[]*corev1.Pod{pod("a", 5), pod("b", 7)}, at(7)}, // one changed
		{[]*corev1.Pod{pod("a", 5)}, metav1.Time{}},      // one went
		{[]*corev1.Pod{pod("a", 5), pod("c", 4)}, at(4)}, // one came
	} {
		if got := times.Last(svc, step.pods); !got.Equal(step.want.Time) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	times.Forget("ns", "web")
	if len(times.known) != 0 {
		t.Error("not forgotten")
	}
}
