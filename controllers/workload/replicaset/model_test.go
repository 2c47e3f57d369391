package replicaset

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"hardway/controllers/podstate"
	"hardway/controllers/workload/model"
	"hardway/controllers/workload/podset"
)

// TestModel drives the plan through lagging caches, lost answers, kills between writes and changes of the size. There
// are never more pods than the largest size that was asked for since they were last settled, and in the end exactly as
// many as asked for.
func TestModel(t *testing.T) {
	kind := appsv1.SchemeGroupVersion.WithKind("ReplicaSet")
	for seed := range model.Seeds() {
		w := model.New(seed)
		w.Nodes, w.Ends, w.Unready = []string{"a", "b", "c"}, 2, 5
		s := set(int32(w.IntN(8)))
		s.UID = model.Owner
		most := *s.Spec.Replicas
		pass := func() {
			all, living, unseen := w.View()
			_ = all
			var replicas []*corev1.Pod
			for _, pod := range living {
				if podstate.Active(pod) {
					replicas = append(replicas, pod)
				}
			}
			p := makePlan(facts{set: s, active: replicas, unseen: len(unseen), related: pods(replicas...), now: w.Now})
			for range p.create {
				w.Create(podset.FromTemplate(s, kind, &s.Spec.Template, "web-"), "")
			}
			for _, pod := range p.remove {
				w.Remove(pod)
			}
		}
		for step := range 120 {
			w.Step()
			if step%40 == 39 {
				s = s.DeepCopy()
				*s.Spec.Replicas = int32(w.IntN(8))
				most = max(most, *s.Spec.Replicas)
			}
			w.Pass(pass)
			if n := len(w.Living()); n > int(most) {
				t.Fatalf("seed %d, step %d: %d pods, never more than %d were asked for\n%v", seed, step, n, most, w.Tail())
			}
		}
		w.Ends = 0
		for range 60 {
			w.Step()
			w.CatchUp()
			pass()
		}
		if n := len(w.Living()); n != int(*s.Spec.Replicas) {
			t.Fatalf("seed %d: settled at %d pods, want %d\n%v", seed, n, *s.Spec.Replicas, w.Tail())
		}
	}
}
