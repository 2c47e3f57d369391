package history

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func subject(image string) Subject {
	return Subject{
		Meta: &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "set"}},
		Kind: appsv1.SchemeGroupVersion.WithKind("StatefulSet"), Labels: map[string]string{"app": "db"},
		Template: &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}},
	}
}

func stored(t *testing.T, image string, number int64) *appsv1.ControllerRevision {
	t.Helper()
	r, err := New(subject(image), number)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMake(t *testing.T) {
	one, two := stored(t, "v1", 1), stored(t, "v2", 2)
	for _, tt := range []struct {
		name     string
		image    string
		have     []*appsv1.ControllerRevision
		create   bool
		number   int64
		renumber int64
		old      int
	}{
		{"first", "v1", nil, true, 1, 0, 0},
		{"unchanged", "v2", []*appsv1.ControllerRevision{two, one}, false, 2, 0, 1},
		{"new", "v3", []*appsv1.ControllerRevision{one, two}, true, 3, 0, 2},
		{"rolled back", "v1", []*appsv1.ControllerRevision{one, two}, false, 1, 3, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Make(subject(tt.image), tt.have)
			if err != nil {
				t.Fatal(err)
			}
			if p.Create != tt.create || p.Current.Revision != tt.number || len(p.Old) != tt.old {
				t.Errorf("create %t, number %d, %d old", p.Create, p.Current.Revision, len(p.Old))
			}
			if (p.Renumber == nil) != (tt.renumber == 0) || p.Renumber != nil && p.Renumber.Revision != tt.renumber {
				t.Errorf("renumber: %+v", p.Renumber)
			}
		})
	}
}

// TestEqualToUpstreams compares with a revision that kube-controller-manager wrote for the same template.
func TestEqualToUpstreams(t *testing.T) {
	theirs := &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: []byte(
		`{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null},"spec":{"containers":[{"image":"v1","name":"c","resources":{}}]}}}}`)}}
	if !Equal(theirs, stored(t, "v1", 1)) {
		t.Error("the same template counts as another one: all pods would start again")
	}
	if Equal(theirs, stored(t, "v2", 1)) {
		t.Error("another template counts as the same")
	}
}

func TestTemplateComesBack(t *testing.T) {
	got, err := Template(stored(t, "v1", 1))
	if err != nil || got.Spec.Containers[0].Image != "v1" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Template(&appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: []byte("{")}}); err == nil {
		t.Error("half a document is read")
	}
}

func TestSurplus(t *testing.T) {
	old := []*appsv1.ControllerRevision{stored(t, "v1", 1), stored(t, "v2", 2), stored(t, "v3", 3)}
	used := func(r *appsv1.ControllerRevision) bool { return r.Revision == 1 }
	if got := Surplus(old, new(int32(1)), used); len(got) != 1 || got[0].Revision != 2 {
		t.Errorf("surplus: %v", got)
	}
	if got := Surplus(old, nil, used); len(got) != 0 {
		t.Errorf("surplus below the limit: %v", got)
	}
}

func TestCollisionChangesTheName(t *testing.T) {
	s := subject("v1")
	a := stored(t, "v1", 1)
	s.Collision = 1
	b, err := New(s, 1)
	if err != nil || a.Name == b.Name {
		t.Errorf("%s and %s, %v", a.Name, b.Name, err)
	}
}
