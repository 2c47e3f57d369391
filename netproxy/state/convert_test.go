package state

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestServiceOf(t *testing.T) {
	base := func(change func(*corev1.Service)) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP,
			ClusterIP: "10.32.0.5", ClusterIPs: []string{"10.32.0.5"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}}}}
		change(s)
		return s
	}
	seconds, proxy := int32(60), corev1.LoadBalancerIPModeProxy
	for name, test := range map[string]struct {
		service  *corev1.Service
		external bool
		want     string
	}{
		"plain":         {base(func(*corev1.Service) {}), false, "cluster [10.32.0.5] external [] ports [{http tcp 80 30080}] affinity 0s"},
		"headless":      {base(func(s *corev1.Service) { s.Spec.ClusterIP = "None"; s.Spec.ClusterIPs = []string{"None"} }), false, "none"},
		"external name": {base(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), false, "none"},
		"no address":    {base(func(s *corev1.Service) { s.Spec.ClusterIP = ""; s.Spec.ClusterIPs = nil }), false, "none"},
		"affinity": {base(func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
		}), false, "cluster [10.32.0.5] external [] ports [{http tcp 80 30080}] affinity 1m0s"},
		"external IPs refused": {base(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.1"} }), false,
			"cluster [10.32.0.5] external [] ports [{http tcp 80 30080}] affinity 0s"},
		"external IPs allowed": {base(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.1", "nonsense"} }), true,
			"cluster [10.32.0.5] external [192.0.2.1] ports [{http tcp 80 30080}] affinity 0s"},
		"load balancer": {base(func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.9"}, {Hostname: "lb.example"}, {IP: "192.0.2.10", IPMode: &proxy}}
		}), false, "cluster [10.32.0.5] external [192.0.2.9] ports [{http tcp 80 30080}] affinity 0s"},
		"load balancer addresses of another type": {base(func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.9"}}
		}), false, "cluster [10.32.0.5] external [] ports [{http tcp 80 30080}] affinity 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			got := "none"
			if s := ServiceOf(test.service, test.external); s != nil {
				got = fmt.Sprintf("cluster %v external %v ports %v affinity %v", s.ClusterIPs, s.ExternalIPs, s.Ports, s.Affinity)
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestSliceOf(t *testing.T) {
	yes, no, port, name, node := true, false, int32(8080), "http", "n1"
	got := SliceOf(&discoveryv1.EndpointSlice{
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}, {Name: &name}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.200.0.1"}, NodeName: &node, Hints: &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: "n1"}}}},
			{Addresses: []string{"10.200.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}},
			{Addresses: []string{"10.200.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
			{Addresses: []string{"127.0.0.1"}}, {Addresses: []string{"169.254.169.254"}}, {Addresses: []string{"224.0.0.1"}}, {Addresses: []string{"x"}}, {},
		},
	})
	want := "{[{http tcp 8080}] [{10.200.0.1 n1 true true false [n1] []} {10.200.0.2  false true true [] []} {10.200.0.3  false false false [] []}]}"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}
