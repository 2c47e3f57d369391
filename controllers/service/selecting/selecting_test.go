package selecting

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestMatches(t *testing.T) {
	svc := &corev1.Service{Spec: corev1.ServiceSpec{Selector: map[string]string{"a": "1", "b": ""}}}
	for name, tt := range map[string]struct {
		labels map[string]string
		want   bool
	}{
		"all": {map[string]string{"a": "1", "b": "", "c": "x"}, true}, "one lacks": {map[string]string{"a": "1"}, false}, "another value": {map[string]string{"a": "2", "b": ""}, false},
	} {
		if Matches(svc, tt.labels) != tt.want {
			t.Errorf("%s: want %t", name, tt.want)
		}
	}
	if Matches(&corev1.Service{}, map[string]string{"a": "1"}) {
		t.Error("no selector selects something")
	}
}

func TestPort(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "x", ContainerPort: 1, Protocol: corev1.ProtocolUDP}, {Name: "x", ContainerPort: 2, Protocol: corev1.ProtocolTCP}}}},
		InitContainers: []corev1.Container{
			{Ports: []corev1.ContainerPort{{Name: "init", ContainerPort: 3, Protocol: corev1.ProtocolTCP}}},
			{RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 4, Protocol: corev1.ProtocolTCP}}},
		},
	}}
	for _, tt := range []struct {
		target intstr.IntOrString
		want   int32
		ok     bool
	}{{intstr.FromInt32(8080), 8080, true}, {intstr.FromString("x"), 2, true}, {intstr.FromString("side"), 4, true}, {intstr.FromString("init"), 0, false}, {intstr.FromString("y"), 0, false}} {
		if n, ok := Port(pod, &corev1.ServicePort{Protocol: corev1.ProtocolTCP, TargetPort: tt.target}); n != tt.want || ok != tt.ok {
			t.Errorf("%v: %d, %t", tt.target, n, ok)
		}
	}
}

func TestChanged(t *testing.T) {
	base := func() *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "1"}}, Status: corev1.PodStatus{PodIP: "10.0.0.1", Phase: corev1.PodRunning}}
	}
	for name, tt := range map[string]struct {
		edit func(*corev1.Pod)
		want bool
	}{
		"nothing":         {func(*corev1.Pod) {}, false},
		"a restart count": {func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 1}} }, false},
		"address":         {func(p *corev1.Pod) { p.Status.PodIP = "10.0.0.2" }, true},
		"label":           {func(p *corev1.Pod) { p.Labels["a"] = "2" }, true},
		"ended":           {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, true},
		"going":           {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }, true},
		"ready": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}, true},
	} {
		after := base()
		tt.edit(after)
		if Changed(base(), after) != tt.want {
			t.Errorf("%s: want %t", name, tt.want)
		}
	}
}
