package resize

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"hardway/nodeagent/podworker/admit"
)

func cpu(request, limit string) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(request)}}
	if limit != "" {
		r.Limits = corev1.ResourceList{"cpu": resource.MustParse(limit)}
	}
	return r
}

func pod(r corev1.ResourceRequirements) *corev1.Pod {
	return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: r}}}}
}

func TestAllocation(t *testing.T) {
	p := pod(cpu("1", "2"))
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, Resources: new(cpu("500m", "")),
	}}
	a := Reported(p)
	if !a.Differs(p) {
		t.Fatal("what an earlier agent reported is forgotten")
	}
	got := a.Apply(p)
	if r := got.Spec.Containers[0].Resources; r.Requests.Cpu().MilliValue() != 500 || len(r.Limits) > 0 {
		t.Errorf("allocated %v", r)
	}
	if p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue() != 1000 {
		t.Error("the pod itself was changed")
	}
	if Spec(p).Differs(p) || Spec(p).Apply(p) != p {
		t.Error("a granted wish still differs")
	}
}

func TestDecide(t *testing.T) {
	n := admit.Node{
		Object: &corev1.Node{Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("2"), "pods": resource.MustParse("9")}}},
		Pods:   []*corev1.Pod{pod(cpu("1", ""))},
	}
	for want, wish := range map[string]string{"": "1", corev1.PodReasonDeferred: "1500m", corev1.PodReasonInfeasible: "3"} {
		f := Decide(pod(cpu(wish, "")), n)
		if f == nil && want != "" || f != nil && f.Reason != want {
			t.Errorf("%s cpu: %v, want %q", wish, f, want)
		}
	}
}
