package priority

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/resource"
)

func TestPlugin(t *testing.T) {
	kind := &resource.Kind{Names: resource.Names{Plural: "pods", Kind: "Pod"}}
	number := func(n int32) *int32 { return &n }
	never := corev1.PreemptNever
	for _, row := range []struct {
		name string
		spec corev1.PodSpec
		want int32
		err  string
	}{
		{"none", corev1.PodSpec{}, 0, ""},
		{"system-node-critical", corev1.PodSpec{PriorityClassName: "system-node-critical"}, 2000001000, ""},
		{"system-cluster-critical", corev1.PodSpec{PriorityClassName: "system-cluster-critical"}, 2000000000, ""},
		{"the number it gets anyway", corev1.PodSpec{Priority: number(0)}, 0, ""},
		{"unknown", corev1.PodSpec{PriorityClassName: "x"}, 0, `pods "p" is forbidden: no PriorityClass with name x was found`},
		{"a number of its own", corev1.PodSpec{Priority: number(7)}, 0,
			`pods "p" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name`},
		{"a policy of its own", corev1.PodSpec{PreemptionPolicy: &never}, 0,
			`pods "p" is forbidden: the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name`},
	} {
		pod := &corev1.Pod{Spec: row.spec}
		err := Plugin{classes("system-node-critical", "system-cluster-critical")}.Mutate(t.Context(), &admission.Attributes{Operation: admission.Create, Kind: kind, Name: "p", Object: pod})
		switch {
		case row.err != "" && (err == nil || err.Error() != row.err):
			t.Errorf("%s: %v", row.name, err)
		case row.err == "" && (err != nil || *pod.Spec.Priority != row.want || *pod.Spec.PreemptionPolicy != corev1.PreemptLowerPriority):
			t.Errorf("%s: %v %+v", row.name, err, pod.Spec)
		}
	}
}

// classes are the named ones, and one that is the default for all if it is called so.
func classes(names ...string) func(context.Context) ([]*schedulingv1.PriorityClass, error) {
	values := map[string]int32{"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000, "everybody": 50}
	var out []*schedulingv1.PriorityClass
	for _, n := range names {
		out = append(out, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: n}, Value: values[n], GlobalDefault: n == "everybody"})
	}
	return func(context.Context) ([]*schedulingv1.PriorityClass, error) { return out, nil }
}

func TestDefaultForAll(t *testing.T) {
	p := Plugin{classes("everybody")}
	pod := &corev1.Pod{}
	pods := &resource.Kind{Names: resource.Names{Plural: "pods", Kind: "Pod"}}
	if err := p.Mutate(t.Context(), &admission.Attributes{Operation: admission.Create, Kind: pods, Object: pod}); err != nil || *pod.Spec.Priority != 50 || pod.Spec.PriorityClassName != "everybody" {
		t.Errorf("%v %+v", err, pod.Spec)
	}
	kind := &resource.Kind{Names: resource.Names{Group: "scheduling.k8s.io", Plural: "priorityclasses", Kind: "PriorityClass"}}
	second := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "second"}, GlobalDefault: true}
	if err := p.Validate(t.Context(), &admission.Attributes{Operation: admission.Create, Kind: kind, Object: second}); err == nil {
		t.Error("a second default")
	}
}

func TestUpdateKeepsThePriority(t *testing.T) {
	kind := &resource.Kind{Names: resource.Names{Plural: "pods", Kind: "Pod"}}
	five := int32(5)
	pod, old := &corev1.Pod{}, &corev1.Pod{Spec: corev1.PodSpec{Priority: &five}}
	err := Plugin{}.Mutate(t.Context(), &admission.Attributes{Operation: admission.Update, Kind: kind, Object: pod, Old: old})
	if err != nil || pod.Spec.Priority == nil || *pod.Spec.Priority != 5 {
		t.Errorf("%v %v", err, pod.Spec.Priority)
	}
}
