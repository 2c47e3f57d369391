package limitpodhardantiaffinitytopology

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
)

func TestValidate(t *testing.T) {
	const refusal = "has TopologyKey topology.kubernetes.io/zone but only key kubernetes.io/hostname is allowed"
	anti := func(keys ...string) *corev1.Affinity {
		a := &corev1.PodAntiAffinity{}
		for _, key := range keys {
			a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, corev1.PodAffinityTerm{TopologyKey: key})
		}
		return &corev1.Affinity{PodAntiAffinity: a}
	}
	preferred := &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
		{PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: corev1.LabelTopologyZone}}}}}
	for name, c := range map[string]struct {
		affinity *corev1.Affinity
		want     string
	}{
		"none":              {nil, ""},
		"node":              {anti(corev1.LabelHostname), ""},
		"zone":              {anti(corev1.LabelTopologyZone), refusal},
		"node and zone":     {anti(corev1.LabelHostname, corev1.LabelTopologyZone), refusal},
		"zone, if possible": {preferred, ""},
	} {
		err := (Plugin{}).Validate(t.Context(), &admission.Attributes{Kind: core.Pod, Operation: admission.Create, Object: &corev1.Pod{Spec: corev1.PodSpec{Affinity: c.affinity}}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
