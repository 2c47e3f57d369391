package statefulset

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

// pod makes the pod of an ordinal; state is ready, unready, failed, going or stuck.
func pod(ordinal, rev int, state string) *corev1.Pod {
	p := newPod(set(1), revision(rev), ordinal)
	p.UID = types.UID(p.Name)
	p.Status.Phase = corev1.PodRunning
	ready := corev1.ConditionTrue
	switch state {
	case "unready":
		ready = corev1.ConditionFalse
	case "failed":
		p.Status.Phase = corev1.PodFailed
	case "going":
		p.DeletionTimestamp = &metav1.Time{Time: now}
	case "stuck":
		ready, p.Status.Phase = corev1.ConditionFalse, corev1.PodPending
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}}
	return p
}

func TestPlan(t *testing.T) {
	parallel := func(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }
	part := func(n int32) func(*appsv1.StatefulSet) {
		return func(s *appsv1.StatefulSet) {
			s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: &n}
		}
	}
	onDelete := func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType }
	for _, tt := range []struct {
		name   string
		n      int32
		change func(*appsv1.StatefulSet)
		pods   []*corev1.Pod
		unseen string
		want   string // created ordinals and removed names
	}{
		{name: "one at a time", n: 3, want: "[0] []"},
		{name: "all at once", n: 3, change: parallel, want: "[0 1 2] []"},
		{name: "the next when the first is ready", n: 3, pods: []*corev1.Pod{pod(0, 2, "ready")}, want: "[1] []"},
		{name: "not before", n: 3, pods: []*corev1.Pod{pod(0, 2, "unready")}, want: "[] []"},
		{name: "one that is on its way counts", n: 3, unseen: "db-0", want: "[] []"},
		{name: "one that ended is replaced", n: 2, pods: []*corev1.Pod{pod(0, 2, "failed"), pod(1, 2, "ready")}, want: "[] [db-0]"},
		{name: "one that goes is waited for", n: 2, pods: []*corev1.Pod{pod(0, 2, "going")}, want: "[] []"},
		{name: "highest goes first", n: 1, pods: []*corev1.Pod{pod(0, 2, "ready"), pod(1, 2, "ready"), pod(2, 2, "ready")}, want: "[] [db-2]"},
		{name: "not while another is unwell", n: 2, pods: []*corev1.Pod{pod(0, 2, "ready"), pod(1, 2, "unready"), pod(2, 2, "ready")}, want: "[] []"},
		{name: "rollout from the highest", n: 3, pods: []*corev1.Pod{pod(0, 1, "ready"), pod(1, 1, "ready"), pod(2, 1, "ready")}, want: "[] [db-2]"},
		{name: "rollout waits", n: 3, pods: []*corev1.Pod{pod(0, 1, "ready"), pod(1, 1, "ready"), pod(2, 2, "unready")}, want: "[] []"},
		{name: "partition", n: 3, change: part(2), pods: []*corev1.Pod{pod(0, 1, "ready"), pod(1, 1, "ready"), pod(2, 2, "ready")}, want: "[] []"},
		{name: "on delete", n: 1, change: onDelete, pods: []*corev1.Pod{pod(0, 1, "ready")}, want: "[] []"},
		{name: "a rollout cures what cannot start", n: 3, pods: []*corev1.Pod{pod(0, 1, "stuck")}, want: "[] [db-0]"},
		{name: "nothing cures the newest", n: 3, pods: []*corev1.Pod{pod(0, 2, "stuck")}, want: "[] []"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := set(tt.n)
			if tt.change != nil {
				tt.change(s)
			}
			p := makePlan(facts{set: s, current: revision(1), update: revision(2), pods: tt.pods, unseen: map[string]bool{tt.unseen: true}, now: now})
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

func TestOrdinals(t *testing.T) {
	s := set(1)
	for name, want := range map[string]int{"db-0": 0, "db-12": 12, "db-": -1, "db-01": -1, "db--1": -1, "db-x": -1, "web-1": -1, "db-+1": -1} {
		got, ok := ordinalOf(s, name)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: %d, %t", name, got, ok)
		}
	}
}

func TestClaims(t *testing.T) {
	s := set(1)
	template := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}}
	s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{template}
	p := newPod(s, version{"db-1", &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "data"}, {Name: "tmp"}}}}}, 4)
	if len(p.Spec.Volumes) != 2 || p.Spec.Volumes[1].PersistentVolumeClaim.ClaimName != "data-db-4" {
		t.Errorf("volumes: %+v", p.Spec.Volumes)
	}
	claim := newClaim(s, &template, 4)
	if claim.Name != "data-db-4" || claim.Labels["app"] != "db" || len(claim.OwnerReferences) != 0 {
		t.Errorf("claim: %+v", claim)
	}
	s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: "Delete", WhenScaled: "Delete"}
	claim.OwnerReferences = append(ownersWanted(s, claim, nil), metav1.OwnerReference{Kind: "Other", UID: "x"})
	if refs := ownersWanted(s, claim, pod(4, 1, "ready")); len(refs) != 2 || refs[0].UID != "x" || refs[1].Kind != "Pod" {
		t.Errorf("owners of a claim whose pod goes: %+v", refs)
	}
	if refs := ownersWanted(s, claim, nil); len(refs) != 2 || refs[1].Kind != "StatefulSet" {
		t.Errorf("owners of a claim whose pod stays: %+v", refs)
	}
}
