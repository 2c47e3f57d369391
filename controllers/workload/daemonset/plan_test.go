package daemonset

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// pod makes a pod on a node; state is ready, unready, failed or going.
func pod(name, node, hash, state string) *corev1.Pod {
	p := newPod(daemonSet(), hash, node)
	p.Name, p.UID, p.Spec.NodeName = name, types.UID(name), node
	p.Status.Phase = corev1.PodRunning
	ready := corev1.ConditionTrue
	switch state {
	case "unready":
		ready = corev1.ConditionFalse
	case "failed":
		p.Status.Phase = corev1.PodFailed
	case "going":
		p.DeletionTimestamp = &metav1.Time{Time: now}
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}}
	return p
}

func TestPlan(t *testing.T) {
	noSchedule := corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoSchedule}
	noExecute := corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoExecute}
	cordoned := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	two := []*corev1.Node{node("a"), node("b")}
	for _, tt := range []struct {
		name   string
		nodes  []*corev1.Node
		change func(*appsv1.DaemonSet)
		pods   []*corev1.Pod
		unseen map[string]int
		pause  time.Duration
		want   string
	}{
		{name: "one on each", nodes: two, want: "[a b] []"},
		{name: "what is on its way counts", nodes: two, unseen: map[string]int{"a": 1}, want: "[b] []"},
		{name: "selector", nodes: two, change: func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"name": "b"} },
			pods: []*corev1.Pod{pod("x", "a", "2", "ready")}, want: "[b] [x]"},
		{name: "taint keeps new ones off and lets the old stay", nodes: []*corev1.Node{node("a", noSchedule), node("b", noSchedule)},
			pods: []*corev1.Pod{pod("x", "a", "2", "ready")}, want: "[] []"},
		{name: "taint drives out", nodes: []*corev1.Node{node("a", noExecute)}, pods: []*corev1.Pod{pod("x", "a", "2", "ready")}, want: "[] [x]"},
		{name: "a cordon is no matter", nodes: []*corev1.Node{node("a", cordoned)}, want: "[a] []"},
		{name: "two on a node are one too many", nodes: two[:1], pods: []*corev1.Pod{pod("x", "a", "2", "ready"), pod("y", "a", "2", "ready")}, want: "[] [y]"},
		{name: "one that ended goes", nodes: two[:1], pods: []*corev1.Pod{pod("x", "a", "2", "failed")}, want: "[] [x]"},
		{name: "after a pause", nodes: two[:1], pods: []*corev1.Pod{pod("x", "a", "2", "failed")}, pause: time.Second, want: "[] []"},
		{name: "one that goes is waited for", nodes: two[:1], pods: []*corev1.Pod{pod("x", "a", "2", "going")}, want: "[] []"},
		{name: "rollout, one at a time", nodes: two, pods: []*corev1.Pod{pod("x", "a", "1", "ready"), pod("y", "b", "1", "ready")}, want: "[] [x]"},
		{name: "rollout waits for the new one", nodes: two, pods: []*corev1.Pod{pod("x", "a", "2", "unready"), pod("y", "b", "1", "ready")}, want: "[] []"},
		{name: "an old one that is not available goes at once", nodes: two, pods: []*corev1.Pod{pod("x", "a", "1", "ready"), pod("y", "b", "1", "unready")}, want: "[] [y]"},
		{name: "surge", nodes: two, change: func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.RollingUpdate = strategy(0, 1) },
			pods: []*corev1.Pod{pod("x", "a", "1", "ready"), pod("y", "b", "1", "ready")}, want: "[a] []"},
		{name: "surge, the new one is available", nodes: two, change: func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.RollingUpdate = strategy(0, 1) },
			pods: []*corev1.Pod{pod("x", "a", "1", "ready"), pod("z", "a", "2", "ready"), pod("y", "b", "1", "ready")}, want: "[] [x]"},
		{name: "on delete", nodes: two[:1], change: func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType },
			pods: []*corev1.Pod{pod("x", "a", "1", "ready")}, want: "[] []"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ds := daemonSet()
			if tt.change != nil {
				tt.change(ds)
			}
			p, err := makePlan(facts{ds: ds, hash: "2", nodes: tt.nodes, pods: tt.pods, unseen: tt.unseen, pause: func(*corev1.Pod) time.Duration { return tt.pause }, now: now})
			if err != nil {
				t.Fatal(err)
			}
			removed := []string{}
			for _, pod := range p.remove {
				removed = append(removed, pod.Name)
			}
			if got := fmt.Sprint(p.create, removed); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	p, err := makePlan(facts{ds: daemonSet(), hash: "2", nodes: []*corev1.Node{node("a"), node("b"), node("c"), node("d", corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoSchedule})},
		pods:  []*corev1.Pod{pod("x", "a", "2", "ready"), pod("y", "b", "1", "unready"), pod("z", "d", "2", "ready")},
		pause: noPause, now: now})
	if err != nil {
		t.Fatal(err)
	}
	s := p.status
	if s.DesiredNumberScheduled != 3 || s.CurrentNumberScheduled != 2 || s.NumberReady != 1 || s.NumberAvailable != 1 || s.NumberUnavailable != 2 || s.UpdatedNumberScheduled != 1 || s.NumberMisscheduled != 1 {
		t.Errorf("%+v", s)
	}
}
