package admit

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func needs(cpu, memory string) corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}}}}}
}

func withPort(port int32, ip string) corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{HostPort: port, HostIP: ip}}}}}
}

func TestCheck(t *testing.T) {
	node := Node{
		Object: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"disk": "ssd"}}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("3")}}},
		Pods:          []*corev1.Pod{{Spec: needs("500m", "512Mi")}, {Spec: withPort(80, "")}},
		UnsafeSysctls: []string{"net.core.*"},
	}
	sysctl := func(name string, hostNetwork bool) corev1.PodSpec {
		return corev1.PodSpec{HostNetwork: hostNetwork, SecurityContext: &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: name, Value: "1"}}}}
	}
	gpu := needs("1", "1Mi")
	gpu.Containers[0].Resources.Requests["vendor/gpu"] = resource.MustParse("1")
	for _, tc := range []struct {
		name   string
		spec   corev1.PodSpec
		reason string
		part   string
	}{
		{"fits", needs("1500m", "512Mi"), "", ""},
		{"too much cpu", needs("1501m", "1Mi"), "OutOfcpu", "Node didn't have enough resource: cpu, requested: 1501, used: 500, capacity: 2000"},
		{"too much memory", needs("1m", "513Mi"), "OutOfmemory", "requested: 537919488"},
		{"a resource of the cluster", gpu, "", ""},
		{"a resource that the node does not have", corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"ephemeral-storage": resource.MustParse("1Gi")}}}}}, "OutOfephemeral-storage", ""},
		{"a port that is taken", withPort(80, ""), "NodePorts", ""},
		{"on one address only", withPort(80, "10.0.0.1"), "NodePorts", ""},
		{"another port", withPort(81, ""), "", ""},
		{"the right labels", corev1.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}}, "", ""},
		{"other labels", corev1.PodSpec{NodeSelector: map[string]string{"disk": "hdd"}}, "NodeAffinity", ""},
		{"another system", corev1.PodSpec{OS: &corev1.PodOS{Name: corev1.Windows}}, "PodOSNotSupported", ""},
		{"a safe sysctl", sysctl("net.ipv4.tcp_syncookies", false), "", ""},
		{"one of the host", sysctl("net.ipv4.tcp_syncookies", true), "SysctlForbidden", "host net"},
		{"an unsafe one", sysctl("kernel.msgmax", false), "SysctlForbidden", `"kernel.msgmax" not allowlisted`},
		{"an unsafe one that is allowed", sysctl("net.core.somaxconn", false), "", ""},
	} {
		f := Check(&corev1.Pod{Spec: tc.spec}, node)
		switch {
		case f == nil && tc.reason != "":
			t.Errorf("%s: admitted", tc.name)
		case f != nil && (f.Reason != tc.reason || !strings.Contains(f.Message, tc.part)):
			t.Errorf("%s: %+v", tc.name, f)
		}
	}
	node.Pods = append(node.Pods, &corev1.Pod{})
	if f := Check(&corev1.Pod{}, node); f == nil || f.Reason != "OutOfpods" {
		t.Errorf("a fourth pod of three: %+v", f)
	}
}

func TestUnsupported(t *testing.T) {
	no := false
	spec := corev1.PodSpec{HostUsers: &no, Containers: []corev1.Container{{
		SecurityContext: &corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}},
		Resources:       corev1.ResourceRequirements{Limits: corev1.ResourceList{"hugepages-2Mi": resource.MustParse("2Mi")}},
	}}}
	err := Unsupported(&corev1.Pod{Spec: spec})
	want := "this node does not support spec.hostUsers: false, spec.containers[0].resources.limits.hugepages-2Mi, spec.containers[0].securityContext.appArmorProfile"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	unconfined := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	if err := Unsupported(&corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{AppArmorProfile: unconfined}}}); err != nil {
		t.Errorf("nothing is asked for: %v", err)
	}
}
