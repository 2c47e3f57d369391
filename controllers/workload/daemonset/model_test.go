package daemonset

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hardway/controllers/podstate"
	"hardway/controllers/workload/model"
)

func daemonSet() *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "log", UID: model.Owner},
		Spec:       appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType}},
	}
}

func strategy(unavailable, surge int) *appsv1.RollingUpdateDaemonSet {
	return &appsv1.RollingUpdateDaemonSet{MaxUnavailable: new(intstr.FromInt(unavailable)), MaxSurge: new(intstr.FromInt(surge))}
}

func node(name string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}, Spec: corev1.NodeSpec{Taints: taints}}
}

func noPause(*corev1.Pod) time.Duration { return 0 }

// TestModel drives the plan through lagging caches, lost answers, kills between writes, nodes that come and go, and
// rollouts. A node never has two living pods, or with a surge one of each revision; in the end every node has one.
func TestModel(t *testing.T) {
	for seed := range model.Seeds() {
		w := model.New(seed)
		w.Ends, w.Unready = 2, 4
		ds := daemonSet()
		ds.Spec.MinReadySeconds = int32(w.IntN(3))
		ds.Spec.UpdateStrategy.RollingUpdate = strategy(1+w.IntN(2), 0)
		if w.IntN(2) == 0 {
			ds.Spec.UpdateStrategy.RollingUpdate = strategy(0, 1+w.IntN(2))
		}
		var nodes []*corev1.Node
		for i := range 1 + w.IntN(5) {
			nodes = append(nodes, node(fmt.Sprint("n", i)))
		}
		hash := 1
		pass := func() {
			all, living, unseen := w.View()
			p, err := makePlan(facts{ds: ds, hash: fmt.Sprint(hash), nodes: nodes, pods: all, gone: hidden(all, living), unseen: perNode(unseen), pause: noPause, now: w.Now})
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range p.create {
				w.Create(newPod(ds, fmt.Sprint(hash), at), at)
			}
			for _, pod := range p.remove {
				w.Remove(pod)
			}
		}
		for step := range 150 {
			w.Step()
			bind(w)
			if step%60 == 20 {
				hash++
			}
			if step%70 == 40 {
				nodes = append(nodes, node(fmt.Sprint("late", step)))
			}
			w.Pass(pass)
			crowded(t, w, ds, seed)
		}
		w.Ends, w.Unready = 0, 0
		for range 150 {
			w.Step()
			bind(w)
			w.CatchUp()
			pass()
		}
		for _, n := range nodes {
			if pods := on(w, n.Name); len(pods) != 1 || pods[0].Labels[appsv1.ControllerRevisionHashLabelKey] != fmt.Sprint(hash) {
				t.Fatalf("seed %d: %d pods on %s, or not of revision %d\n%v", seed, len(pods), n.Name, hash, w.Tail())
			}
		}
	}
}

// bind plays the scheduler.
func bind(w *model.World) {
	for name, pod := range w.Truth {
		if pod.Spec.NodeName == "" {
			out := pod.DeepCopy()
			out.Spec.NodeName = nodeOf(pod)
			w.Truth[name] = out
		}
	}
}

func on(w *model.World, node string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range w.Living() {
		if pod.Spec.NodeName == node {
			out = append(out, pod)
		}
	}
	return out
}

func crowded(t *testing.T, w *model.World, ds *appsv1.DaemonSet, seed uint64) {
	t.Helper()
	surge := ds.Spec.UpdateStrategy.RollingUpdate.MaxSurge.IntValue() > 0
	seen := map[string]bool{}
	for _, pod := range w.Living() {
		id := nodeOf(pod)
		if surge {
			id += " " + pod.Labels[appsv1.ControllerRevisionHashLabelKey]
		}
		if seen[id] && podstate.Active(pod) {
			t.Fatalf("seed %d: two pods on %s\n%v", seed, id, w.Tail())
		}
		seen[id] = true
	}
}
