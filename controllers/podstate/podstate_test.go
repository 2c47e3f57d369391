package podstate

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAvailable(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pod := func(status corev1.ConditionStatus, ago time.Duration) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(now.Add(-ago))}}}}
	}
	for _, tt := range []struct {
		name    string
		pod     *corev1.Pod
		seconds int32
		want    bool
		wait    time.Duration
	}{
		{"not ready", pod(corev1.ConditionFalse, time.Hour), 0, false, 0}, {"no condition", &corev1.Pod{}, 0, false, 0}, {"at once", pod(corev1.ConditionTrue, 0), 0, true, 0},
		{"soon", pod(corev1.ConditionTrue, 4*time.Second), 10, false, 6 * time.Second}, {"just now", pod(corev1.ConditionTrue, 10*time.Second), 10, true, 0},
	} {
		if got, wait := Available(tt.pod, tt.seconds, now); got != tt.want || wait != tt.wait {
			t.Errorf("%s: %t, %v", tt.name, got, wait)
		}
	}
}

func TestActive(t *testing.T) {
	for phase, want := range map[corev1.PodPhase]bool{corev1.PodPending: true, corev1.PodRunning: true, corev1.PodUnknown: true, corev1.PodSucceeded: false, corev1.PodFailed: false} {
		pod := &corev1.Pod{Status: corev1.PodStatus{Phase: phase}}
		if Active(pod) != want || Terminating(pod) {
			t.Errorf("%s: active %t, terminating %t", phase, Active(pod), Terminating(pod))
		}
		pod.DeletionTimestamp = &metav1.Time{}
		if Active(pod) || Terminating(pod) != want {
			t.Errorf("%s, being deleted: active %t, terminating %t", phase, Active(pod), Terminating(pod))
		}
	}
}
