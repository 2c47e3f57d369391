package statefulset

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hardway/controllers/podstate"
	"hardway/controllers/workload/model"
)

func set(n int32) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: model.Owner},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &n, ServiceName: "db", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
		},
	}
}

func revision(n int) version { return version{fmt.Sprint("db-", n), &corev1.PodTemplateSpec{}} }

// TestModel drives the plan through lagging caches, lost answers, kills between writes, resizing and rollouts. With
// OrderedReady a pod is created only when all before it exist, never are two created or taken away in one pass, and a
// rollout takes no more pods away than maxUnavailable; in the end every place has a pod of the right revision.
func TestModel(t *testing.T) {
	for seed := range model.Seeds() {
		w := model.New(seed)
		w.Ends, w.Unready = 2, 4
		s := set(int32(w.IntN(6)))
		s.Spec.MinReadySeconds = int32(w.IntN(3))
		s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: int32(w.IntN(3))}
		if w.IntN(2) == 0 {
			s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		}
		limit := 1 + w.IntN(2)
		s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{
			Partition: new(int32(w.IntN(3))), MaxUnavailable: new(intstr.FromInt(limit)),
		}
		current, update := 1, 1
		pass := func() {
			all, living, unseen := w.View()
			f := facts{set: s, current: revision(current), update: revision(update), pods: all, unseen: names(unseen), gone: hidden(all, living), now: w.Now}
			p := makePlan(f)
			check(t, w, f, p, fmt.Sprint("seed ", seed))
			for _, ordinal := range p.create {
				w.Create(newPod(s, versionFor(f, ordinal), ordinal), "")
			}
			for _, pod := range p.remove {
				w.Remove(pod)
			}
			if w.Write() {
				s = s.DeepCopy()
				s.Status = p.status
				if p.status.CurrentRevision == revision(update).name {
					current = update
				}
			}
		}
		for step := range 150 {
			w.Step()
			if step%50 == 30 {
				s = s.DeepCopy()
				*s.Spec.Replicas = int32(w.IntN(6))
			}
			if step%70 == 20 {
				update++
			}
			w.Pass(pass)
		}
		w.Ends, w.Unready = 0, 0
		for range 150 {
			w.Step()
			w.CatchUp()
			pass()
		}
		settled(t, w, s, current, update, seed)
	}
}

// check holds a plan against what must never happen.
func check(t *testing.T, w *model.World, f facts, p plan, where string) {
	t.Helper()
	ordered := f.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	if ordered && len(p.create)+len(p.remove) > 1 && len(p.create) > 0 {
		t.Fatalf("%s: creates %v and removes %d in one step\n%v", where, p.create, len(p.remove), w.Tail())
	}
	for _, ordinal := range p.create {
		for before := startOrdinal(f.set); ordered && before < ordinal; before++ {
			if w.Truth[podName(f.set, before)] == nil {
				t.Fatalf("%s: creates %d while %d is not there\n%v", where, ordinal, before, w.Tail())
			}
		}
	}
	seen := map[types.UID]bool{}
	down := 0
	for _, pod := range p.remove {
		if seen[pod.UID] {
			t.Fatalf("%s: removes %s twice", where, pod.Name)
		}
		seen[pod.UID] = true
		ordinal, _ := ordinalOf(f.set, pod.Name)
		within := ordinal >= startOrdinal(f.set) && ordinal < startOrdinal(f.set)+wanted(f.set)
		if within && revisionOf(pod) == f.update.name && !podstate.Terminal(pod) {
			t.Fatalf("%s: removes %s, which is as it should be\n%v", where, pod.Name, w.Tail())
		}
		if ok, _ := podstate.Available(pod, f.set.Spec.MinReadySeconds, f.now); within && ok {
			down++
		}
	}
	if limit := maxUnavailable(f.set); down > limit {
		t.Fatalf("%s: takes %d available pods away, at most %d\n%v", where, down, limit, w.Tail())
	}
}

func settled(t *testing.T, w *model.World, s *appsv1.StatefulSet, current, update int, seed uint64) {
	t.Helper()
	if len(w.Truth) != wanted(s) {
		t.Fatalf("seed %d: %d pods, want %d\n%v", seed, len(w.Truth), wanted(s), w.Tail())
	}
	for i := range wanted(s) {
		pod := w.Truth[podName(s, startOrdinal(s)+i)]
		if pod == nil || pod.Status.Phase != corev1.PodRunning {
			t.Fatalf("seed %d: place %d is empty or its pod does not run\n%v", seed, i, w.Tail())
		}
		if i >= partition(s) && revisionOf(pod) != revision(update).name {
			t.Fatalf("seed %d: %s has revision %s, want %d (current %d)\n%v", seed, pod.Name, revisionOf(pod), update, current, w.Tail())
		}
	}
}
