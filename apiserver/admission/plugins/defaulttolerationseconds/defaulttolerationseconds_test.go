package defaulttolerationseconds

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
)

func TestPlugin(t *testing.T) {
	const both = "not-ready 300, unreachable 300"
	for _, row := range []struct {
		name string
		has  []corev1.Toleration
		want string
	}{
		{"none", nil, both},
		{"one of them", []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}, "not-ready nil, unreachable 300"},
		{"for another effect", []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}}, "not-ready nil, " + both},
		{"any effect", []corev1.Toleration{{Key: corev1.TaintNodeNotReady}}, "not-ready nil, unreachable 300"},
		{"everything", []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, " nil"},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: row.has}}
		if err := (Plugin{}).Mutate(t.Context(), &admission.Attributes{Operation: admission.Create, Object: pod}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, tol := range pod.Spec.Tolerations {
			seconds := "nil"
			if tol.TolerationSeconds != nil {
				seconds = fmt.Sprint(*tol.TolerationSeconds)
			}
			got = append(got, strings.TrimPrefix(tol.Key, "node.kubernetes.io/")+" "+seconds)
		}
		if s := strings.Join(got, ", "); s != row.want {
			t.Errorf("%s: %s, want %s", row.name, s, row.want)
		}
	}
}
