package extendedresourcetoleration

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"hardway/apiserver/admission"
)

func TestMutate(t *testing.T) {
	asking := func(names ...corev1.ResourceName) (out corev1.ResourceRequirements) {
		out.Requests = corev1.ResourceList{}
		for _, n := range names {
			out.Requests[n] = resource.MustParse("1")
		}
		return out
	}
	for name, c := range map[string]struct {
		main, init []corev1.ResourceName
		has        []corev1.Toleration
		want       string
	}{
		"nothing":       {[]corev1.ResourceName{"cpu", "memory", "hugepages-2Mi", "kubernetes.io/x", "node.kubernetes.io/y", "requests.a.com/b"}, nil, nil, "[]"},
		"a device":      {[]corev1.ResourceName{"cpu", "a.com/gpu"}, nil, nil, "[a.com/gpu]"},
		"several":       {[]corev1.ResourceName{"b.com/nic"}, []corev1.ResourceName{"a.com/gpu", "b.com/nic"}, nil, "[a.com/gpu b.com/nic]"},
		"tolerated yet": {[]corev1.ResourceName{"a.com/gpu"}, nil, []corev1.Toleration{{Key: "a.com/gpu", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, "[a.com/gpu]"},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.has,
			Containers: []corev1.Container{{Resources: asking(c.main...)}}, InitContainers: []corev1.Container{{Resources: asking(c.init...)}}}}
		if err := (Plugin{}).Mutate(t.Context(), &admission.Attributes{Operation: admission.Create, Object: pod}); err != nil {
			t.Fatal(err)
		}
		keys := []string{}
		for _, tol := range pod.Spec.Tolerations {
			keys = append(keys, tol.Key)
		}
		if got := fmt.Sprint(keys); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
