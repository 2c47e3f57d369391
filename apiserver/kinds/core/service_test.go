package core

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// TestServiceUpdatesKeepWhatWasAllocated sends Services as clients do that leave out what they did not choose.
func TestServiceUpdatesKeepWhatWasAllocated(t *testing.T) {
	single := corev1.IPFamilyPolicySingleStack
	ports := func(nodePorts ...int32) []corev1.ServicePort {
		out := []corev1.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 81}}
		for i, n := range nodePorts {
			out[i].NodePort = n
		}
		return out
	}
	old := corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.32.0.7", ClusterIPs: []string{"10.32.0.7"},
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single, Ports: ports(30001, 30002),
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster}
	with := func(change func(*corev1.ServiceSpec)) corev1.ServiceSpec {
		s := *old.DeepCopy()
		change(&s)
		return s
	}
	for name, tc := range map[string]struct{ sent, want corev1.ServiceSpec }{
		"nothing but what was chosen": {corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: ports(), ExternalTrafficPolicy: old.ExternalTrafficPolicy}, old},
		"a node port swapped": {
			with(func(s *corev1.ServiceSpec) { s.Ports = ports(0, 30001) }),
			with(func(s *corev1.ServiceSpec) { s.Ports = ports(0, 30001) }),
		},
		"now for the cluster only": {
			with(func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeClusterIP }),
			with(func(s *corev1.ServiceSpec) {
				s.Type, s.Ports, s.ExternalTrafficPolicy = corev1.ServiceTypeClusterIP, ports(), ""
			}),
		},
		"now a name": {
			with(func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "a.b" }),
			corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "a.b", Ports: ports()},
		},
		"an old client changes the address": {
			with(func(s *corev1.ServiceSpec) { s.ClusterIP = "10.32.0.8" }),
			with(func(s *corev1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "10.32.0.8", []string{"10.32.0.8"} }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, was := &corev1.Service{Spec: tc.sent}, &corev1.Service{Spec: *old.DeepCopy()}
			prepareService(t.Context(), s, was)
			if !equality.Semantic.DeepEqual(s.Spec, tc.want) {
				t.Errorf("got %+v\nwant %+v", s.Spec, tc.want)
			}
			if !equality.Semantic.DeepEqual(was.Spec, old) {
				t.Error("the old Service was changed")
			}
		})
	}
}
