package state

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestServiceOf(t *testing.T) {
	no, host, port, name := false, "DB-0", int32(5432), "Sql"
	slice := func(e ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}, Endpoints: e}
	}
	slices := []*discoveryv1.EndpointSlice{
		slice(discoveryv1.Endpoint{Addresses: []string{"10.200.0.6"}}, discoveryv1.Endpoint{Addresses: []string{"10.200.0.5"}, Hostname: &host}),
		slice(discoveryv1.Endpoint{Addresses: []string{"10.200.0.7"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
			discoveryv1.Endpoint{Addresses: []string{"10.200.0.6"}}), // in two slices while it moves
	}
	for name, test := range map[string]struct {
		spec corev1.ServiceSpec
		want string
	}{
		"cluster IPs": {corev1.ServiceSpec{ClusterIP: "10.32.0.5", ClusterIPs: []string{"10.32.0.5", "fd00::5"}, Ports: []corev1.ServicePort{
			{Name: "HTTP", Port: 80}, {Name: "", Port: 81}, {Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}}},
			"{{ns web}  false [10.32.0.5 fd00::5] [{http tcp 80} {dns udp 53}] []}"},
		"headless": {corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}},
			"{{ns web}  true [] [] [{10.200.0.5 db-0 true [{sql tcp 5432}]} {10.200.0.6 10-200-0-6 false [{sql tcp 5432}]}]}"},
		"external name": {corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "www.example.com"},
			"{{ns web} www.example.com. false [] [] []}"},
		"no address yet": {corev1.ServiceSpec{}, "{{ns web}  false [] [] []}"},
	} {
		t.Run(name, func(t *testing.T) {
			got := fmt.Sprint(*ServiceOf(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}, Spec: test.spec}, slices))
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
