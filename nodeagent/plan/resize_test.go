package plan

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestResize(t *testing.T) {
	cpu := func(n string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(n)}}
	}
	for _, tc := range []struct {
		name   string
		policy corev1.ResourceResizeRestartPolicy
		have   string
		want   string
	}{
		{"nothing changed", corev1.NotRequired, "1", ""},
		{"in place", corev1.NotRequired, "500m", "resizecontainers"},
		{"by a restart", corev1.RestartContainer, "500m", "kill a-0 in 30s"},
	} {
		s := newScene(corev1.RestartPolicyAlways, "a").up().running("a", 0)
		s.Pod.Spec.Containers[0].Resources = cpu("1")
		s.Pod.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: tc.policy}}
		s.Facts.Resize.Enforced = map[string]corev1.ResourceRequirements{"a-0": cpu(tc.have)}
		if got := text(Next(s.Input)); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if got, want := Resizing(s.Pod, s.Facts, map[string]string{"a": "a-0"}), tc.want != ""; got != want {
			t.Errorf("%s: under way: %v", tc.name, got)
		}
	}
}
