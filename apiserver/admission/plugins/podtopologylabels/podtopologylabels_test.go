package podtopologylabels

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
)

func TestMutate(t *testing.T) {
	nodes := map[string]*corev1.Node{
		"a": {ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelTopologyZone: "z", corev1.LabelTopologyRegion: "r", "rack": "1"}}},
		"b": {},
	}
	p := Plugin{func(name string) *corev1.Node { return nodes[name] }}
	const own, zone = "map[app:x topology.kubernetes.io/zone:mine]", "map[app:x topology.kubernetes.io/region:r topology.kubernetes.io/zone:z]"
	for name, c := range map[string]struct {
		op        admission.Operation
		sub, node string
		want      string
	}{
		"bound":                 {admission.Update, "binding", "a", zone},
		"made with a node":      {admission.Create, "", "a", zone},
		"made without":          {admission.Create, "", "", own},
		"changed later":         {admission.Update, "", "a", own},
		"a node without labels": {admission.Update, "binding", "b", own},
		"a node that is gone":   {admission.Update, "binding", "c", own},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x", corev1.LabelTopologyZone: "mine"}},
			Spec:       corev1.PodSpec{NodeName: c.node},
		}
		if err := p.Mutate(t.Context(), &admission.Attributes{Operation: c.op, Subresource: c.sub, Object: pod}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(pod.Labels); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
