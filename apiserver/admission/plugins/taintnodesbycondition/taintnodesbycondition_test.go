package taintnodesbycondition

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
)

func TestMutate(t *testing.T) {
	notReady := func(e corev1.TaintEffect) corev1.Taint {
		return corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: e}
	}
	for name, c := range map[string]struct {
		op   admission.Operation
		sub  string
		has  []corev1.Taint
		want int
	}{
		"new":                       {admission.Create, "", nil, 1},
		"has another":               {admission.Create, "", []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}, 2},
		"has it":                    {admission.Create, "", []corev1.Taint{notReady(corev1.TaintEffectNoSchedule)}, 1},
		"has it for another effect": {admission.Create, "", []corev1.Taint{notReady(corev1.TaintEffectNoExecute)}, 2},
		"changed":                   {admission.Update, "", nil, 0},
		"status":                    {admission.Update, "status", nil, 0},
	} {
		node := &corev1.Node{Spec: corev1.NodeSpec{Taints: c.has}}
		if err := (Plugin{}).Mutate(t.Context(), &admission.Attributes{Operation: c.op, Subresource: c.sub, Object: node}); err != nil {
			t.Fatal(err)
		}
		if got := len(node.Spec.Taints); got != c.want {
			t.Errorf("%s: %v, want %d taints", name, node.Spec.Taints, c.want)
		}
	}
}
