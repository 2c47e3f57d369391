package replicaset

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func set(n int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "set", Generation: 3},
		Spec:       appsv1.ReplicaSetSpec{Replicas: &n, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}}},
	}
}

type podOption func(*corev1.Pod)

func pod(name string, options ...podOption) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}, CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))},
		Spec:       corev1.PodSpec{NodeName: "node-" + name}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, o := range options {
		o(p)
	}
	return p
}

func ready(ago time.Duration) podOption {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-ago))}}
	}
}

func on(node string) podOption { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func phase(ph corev1.PodPhase) podOption { return func(p *corev1.Pod) { p.Status.Phase = ph } }

func cost(n string) podOption {
	return func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: n} }
}

func restarts(n int32) podOption {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
}

func created(ago time.Duration) podOption {
	return func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-ago)) }
}

func pods(list ...*corev1.Pod) func(*appsv1.ReplicaSet) []*corev1.Pod {
	return func(*appsv1.ReplicaSet) []*corev1.Pod { return list }
}

func TestPlan(t *testing.T) {
	a, b, c := pod("a", ready(time.Hour)), pod("b", ready(time.Hour)), pod("c", ready(time.Hour))
	tests := []struct {
		name   string
		facts  facts
		create int
		remove []string
	}{
		{name: "nothing there", facts: facts{set: set(3)}, create: 3},
		{name: "enough", facts: facts{set: set(2), active: []*corev1.Pod{a, b}}},
		{name: "on their way count", facts: facts{set: set(3), active: []*corev1.Pod{a}, unseen: 2}},
		{name: "more than a burst", facts: facts{set: set(2000)}, create: burst},
		{name: "surplus that is not visible cannot be removed", facts: facts{set: set(0), unseen: 2}},
		{name: "of surplus only visible ones go", facts: facts{set: set(1), active: []*corev1.Pod{a}, unseen: 2}, remove: []string{"a"}},
		{name: "a set being deleted does nothing", facts: facts{set: func() *appsv1.ReplicaSet {
			s := set(3)
			s.DeletionTimestamp = &metav1.Time{Time: now}
			return s
		}(), active: []*corev1.Pod{a}}},
		{name: "unassigned goes first", facts: facts{set: set(2), active: []*corev1.Pod{a, pod("x", on(""), phase(corev1.PodPending)), c}}, remove: []string{"x"}},
		{name: "pending before running", facts: facts{set: set(2), active: []*corev1.Pod{a, pod("x", phase(corev1.PodPending)), c}}, remove: []string{"x"}},
		{name: "not ready before ready", facts: facts{set: set(2), active: []*corev1.Pod{a, pod("x"), c}}, remove: []string{"x"}},
		{name: "lower cost first", facts: facts{set: set(2), active: []*corev1.Pod{a, pod("x", ready(time.Hour), cost("-5")), c}}, remove: []string{"x"}},
		{name: "younger first, by magnitude", facts: facts{set: set(2), active: []*corev1.Pod{a, pod("x", ready(time.Minute)), c}}, remove: []string{"x"}},
		{name: "more restarts first", facts: facts{set: set(2), active: []*corev1.Pod{a, pod("x", ready(time.Hour), restarts(4)), c}}, remove: []string{"x"}},
		{
			name: "crowded node first",
			facts: facts{set: set(2),
				active:  []*corev1.Pod{pod("p", ready(time.Hour), on("n1")), pod("q", ready(time.Hour), on("n2")), pod("r", ready(time.Hour), on("n3"))},
				related: pods(pod("q", ready(time.Hour), on("n2")), pod("other", ready(time.Hour), on("n2")))},
			remove: []string{"q"},
		},
		{name: "younger by creation", facts: facts{set: set(1), active: []*corev1.Pod{pod("p", created(time.Hour)), pod("q", created(time.Second))}}, remove: []string{"q"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.facts.now = now
			if tt.facts.related == nil {
				tt.facts.related = pods()
			}
			p := makePlan(tt.facts)
			var names []string
			for _, pod := range p.remove {
				names = append(names, pod.Name)
			}
			if p.create != tt.create || fmt.Sprint(names) != fmt.Sprint(tt.remove) {
				t.Errorf("create %d, remove %v; want %d, %v", p.create, names, tt.create, tt.remove)
			}
		})
	}
}

// TestPlanSettles applies plans to what they were made from: one plan is enough unless it hits the burst.
func TestPlanSettles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		want, have := int32(r.IntN(40)), r.IntN(40)
		f := facts{set: set(want), related: pods(), now: now}
		for i := range have {
			f.active = append(f.active, pod(fmt.Sprint("p", i), ready(time.Duration(r.IntN(1e6))*time.Second)))
		}
		p := makePlan(f)
		for i := range p.create {
			f.active = append(f.active, pod(fmt.Sprint("new", i)))
		}
		gone := map[string]bool{}
		for _, pod := range p.remove {
			gone[pod.Name] = true
		}
		var left []*corev1.Pod
		for _, pod := range f.active {
			if !gone[pod.Name] {
				left = append(left, pod)
			}
		}
		f.active = left
		if again := makePlan(f); again.create != 0 || len(again.remove) != 0 {
			t.Fatalf("want %d, had %d: a second plan creates %d and removes %d", want, have, again.create, len(again.remove))
		}
	}
}

func TestStatus(t *testing.T) {
	s := set(4)
	s.Spec.MinReadySeconds = 30
	active := []*corev1.Pod{pod("old", ready(time.Minute)), pod("new", ready(10*time.Second)), pod("unready")}
	active[2].Labels = map[string]string{"app": "other"}
	terminating := []*corev1.Pod{pod("going")}
	status, next := makeStatus(s, active, terminating, fmt.Errorf("quota"), now)
	if status.Replicas != 3 || status.ReadyReplicas != 2 || status.AvailableReplicas != 1 || status.FullyLabeledReplicas != 2 || *status.TerminatingReplicas != 1 || status.ObservedGeneration != 3 {
		t.Errorf("status: %+v", status)
	}
	if next != 20*time.Second {
		t.Errorf("next look after %v, want 20s", next)
	}
	if len(status.Conditions) != 1 || status.Conditions[0].Reason != "FailedCreate" || status.Conditions[0].Message != "quota" {
		t.Errorf("conditions: %+v", status.Conditions)
	}
	s.Status = status
	status, _ = makeStatus(s, active, terminating, nil, now)
	if len(status.Conditions) != 0 {
		t.Errorf("a failure that is over still shows: %+v", status.Conditions)
	}
}

func TestReplicationControllerThereAndBack(t *testing.T) {
	rc := &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "rc", ResourceVersion: "7"},
		Spec:       corev1.ReplicationControllerSpec{Replicas: new(int32(2)), Selector: map[string]string{"app": "web"}, Template: &corev1.PodTemplateSpec{}},
		Status: corev1.ReplicationControllerStatus{Replicas: 1, ReadyReplicas: 1, ObservedGeneration: 3, Conditions: []corev1.ReplicationControllerCondition{
			{Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "quota"},
		}},
	}
	if got := withStatus(rc, fromController(rc)); !equality.Semantic.DeepEqual(got, rc) {
		t.Errorf("came back as %+v", got)
	}
	if fromController(nil) != nil {
		t.Error("nothing became something")
	}
}
