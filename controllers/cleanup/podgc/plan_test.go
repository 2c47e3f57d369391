package podgc

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func pod(name string, phase corev1.PodPhase, age time.Duration, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(-age))},
		Spec:       corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{Phase: phase},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func going(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }

func TestSurplus(t *testing.T) {
	pods := []*corev1.Pod{
		pod("running", corev1.PodRunning, 9*time.Hour), pod("old", corev1.PodSucceeded, 3*time.Hour), pod("older", corev1.PodFailed, 4*time.Hour), pod("young", corev1.PodSucceeded, time.Hour),
		pod("evicted", corev1.PodFailed, time.Minute, func(p *corev1.Pod) { p.Status.Reason = "Evicted" }), pod("going", corev1.PodFailed, 9*time.Hour, going),
	}
	for threshold, want := range map[int]string{0: "[]", 4: "[]", 2: "[evicted older]", 1: "[evicted older old]"} {
		got := []string{}
		for _, p := range surplus(pods, threshold) {
			got = append(got, p.Name)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("threshold %d: %v, want %s", threshold, got, want)
		}
	}
}

func TestOutOfService(t *testing.T) {
	node := func(ready corev1.ConditionStatus, taint string) *corev1.Node {
		return &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: taint}}}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
	}
	p := pod("p", corev1.PodRunning, 0, going)
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		node *corev1.Node
		want bool
	}{
		"out of service": {p, node(corev1.ConditionUnknown, corev1.TaintNodeOutOfService), true}, "ready all the same": {p, node(corev1.ConditionTrue, corev1.TaintNodeOutOfService), false},
		"another taint": {p, node(corev1.ConditionUnknown, "x"), false}, "not being deleted": {pod("q", corev1.PodRunning, 0), node(corev1.ConditionUnknown, corev1.TaintNodeOutOfService), false}, "no node": {p, nil, false},
	} {
		if outOfService(tt.pod, tt.node) != tt.want {
			t.Errorf("%s: want %t", name, tt.want)
		}
	}
}
