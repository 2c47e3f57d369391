package apply

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/apiserver/resource"
)

// step changes a pod in one of the ways in which pods are changed.
func step(r *rand.Rand, p *corev1.Pod) {
	word := func() string { return fmt.Sprint("w", r.IntN(3)) }
	switch r.IntN(12) {
	case 0:
		p.Labels = map[string]string{word(): word()}
	case 1:
		p.Annotations = map[string]string{"a": word(), word(): word()}
	case 2:
		p.Spec.NodeName = word()
	case 3:
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprint("c", len(p.Spec.Containers)), Image: word()})
	case 4:
		p.Spec.Containers[0].Image = word()
	case 5:
		p.Spec.NodeSelector = map[string]string{"zone": word()} // merges as a whole
	case 6:
		n := int64(r.IntN(3))
		p.Spec.TerminationGracePeriodSeconds = &n
	case 7:
		p.Spec.TerminationGracePeriodSeconds = nil
	case 8:
		p.Status.Phase = corev1.PodPhase(word()) // left alone by writes to the pod
	case 9:
		p.Finalizers = []string{word()}
	case 10:
		p.Spec.SecurityContext = &corev1.PodSecurityContext{}
	case 11:
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
	}
}

// What is recalled is what the library says. Time stands still: entries are in the order of their seconds.
func TestRecall(t *testing.T) { synctest.Test(t, recalls) }

func recalls(t *testing.T) {
	kind := pods()
	recalling, err := NewManager(NewTypes([]*resource.Kind{kind}), kind, kind.GVK(), "")
	if err != nil {
		t.Fatal(err)
	}
	asking, err := NewManager(NewTypes([]*resource.Kind{kind}), kind, kind.GVK(), "")
	if err != nil {
		t.Fatal(err)
	}
	asking.recall = nil
	known := 0
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		live := pod(`{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"1"}]}}`)
		for range r.IntN(4) {
			step(r, live)
		}
		sets := recalling.recall.shapes.Len()
		got := both(t, recalling, asking, &corev1.Pod{}, live, "m")
		if recalling.recall.shapes.Len() == sets {
			known++
		}
		got.UID = types.UID("u")
		for range 6 {
			next := got.DeepCopy()
			step(r, next)
			if r.IntN(2) == 0 {
				next.ManagedFields, next.UID, next.Name = nil, "", ""
			}
			if _, ok := recallUpdate(recalling, got, next); ok {
				known++
			}
			got = both(t, recalling, asking, got, next, []string{"m", "", "other"}[r.IntN(3)])
			got.UID, got.Name = "u", "p"
		}
	}
	if known < 200 {
		t.Errorf("only %d of the writes were simple", known)
	}
}

func recallUpdate(m *Manager, live, next *corev1.Pod) (*corev1.Pod, bool) {
	out := next.DeepCopy()
	return out, m.recall.update(live, out, "m")
}

// both lets two managers account for the same write, and fails if they differ in more than the time.
func both(t *testing.T, a, b *Manager, live, obj *corev1.Pod, manager string) *corev1.Pod {
	t.Helper()
	x := a.Update(live.DeepCopy(), obj.DeepCopy(), manager).(*corev1.Pod)
	y := b.Update(live.DeepCopy(), obj.DeepCopy(), manager).(*corev1.Pod)
	if len(x.ManagedFields) != len(y.ManagedFields) {
		t.Fatalf("%v\nbut the library says\n%v", x.ManagedFields, y.ManagedFields)
	}
	for i := range x.ManagedFields {
		p, q := x.ManagedFields[i], y.ManagedFields[i]
		if !sameButTime(p, q) || (p.Time == nil) != (q.Time == nil) {
			t.Fatalf("%v %s\nbut the library says\n%v %s\nlive %v\nobject %v", p, p.FieldsV1, q, q.FieldsV1, live, obj)
		}
	}
	x.ManagedFields, y.ManagedFields = nil, y.ManagedFields
	x.ManagedFields = y.ManagedFields
	if fmt.Sprint(x) != fmt.Sprint(y) {
		t.Fatalf("%v\nbut the library says\n%v", x, y)
	}
	return y
}

func BenchmarkUpdate(b *testing.B) {
	kind := pods()
	for _, recalls := range []bool{true, false} {
		b.Run(fmt.Sprint("recall=", recalls), func(b *testing.B) {
			m, err := NewManager(NewTypes([]*resource.Kind{kind}), kind, kind.GVK(), "")
			if err != nil {
				b.Fatal(err)
			}
			if !recalls {
				m.recall = nil
			}
			obj := pod(`{"metadata":{"name":"p","labels":{"a":"b"}},"spec":{"nodeName":"n","containers":[{"name":"a","image":"1"}]}}`)
			live := m.Update(&corev1.Pod{}, obj.DeepCopy(), "m").(*corev1.Pod)
			live.UID = "u"
			for b.Loop() {
				next := live.DeepCopy()
				next.Spec.NodeName = "other"
				m.Update(live, next, "m")
				m.Update(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{}}, obj, "m")
				obj.ManagedFields = nil
			}
		})
	}
}
