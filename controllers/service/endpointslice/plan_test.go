package endpointslice

import (
	"fmt"
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "svc", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.32.0.5", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")}},
		},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

func pod(name, ip string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func nodes(name string) *corev1.Node {
	if name == "gone" {
		return nil
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: "z1"}}}
}

func unready(p *corev1.Pod)     { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func terminating(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Now()} }

func text(e discoveryv1.Endpoint) string {
	s := fmt.Sprintf("%v ready=%t serving=%t terminating=%t", e.Addresses, *e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating)
	if e.Hostname != nil {
		s += " host=" + *e.Hostname
	}
	if e.Hints != nil {
		s += fmt.Sprintf(" hints=%v%v", e.Hints.ForZones, e.Hints.ForNodes)
	}
	return s
}

func TestEndpoints(t *testing.T) {
	tests := []struct {
		name string
		svc  *corev1.Service
		pod  *corev1.Pod
		want string // "" for none
	}{
		{"ready", service(), pod("p", "10.200.0.1"), "[10.200.0.1] ready=true serving=true terminating=false"},
		{"not ready", service(), pod("p", "10.200.0.1", unready), "[10.200.0.1] ready=false serving=false terminating=false"},
		{"going, still serving", service(), pod("p", "10.200.0.1", terminating), "[10.200.0.1] ready=false serving=true terminating=true"},
		{"published though not ready", service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), pod("p", "10.200.0.1", unready), "[10.200.0.1] ready=true serving=false terminating=false"},
		{"ended", service(), pod("p", "10.200.0.1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), ""},
		{"no address yet", service(), pod("p", "", func(p *corev1.Pod) { p.Status.PodIPs = nil }), ""},
		{"other family", service(), pod("p", "fd00::1"), ""},
		{"node not known", service(), pod("p", "10.200.0.1", func(p *corev1.Pod) { p.Spec.NodeName = "gone" }), ""},
		{"host name in the service's domain", service(), pod("p", "10.200.0.1", func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "h", "web" }), "[10.200.0.1] ready=true serving=true terminating=false host=h"},
		{"host name elsewhere", service(), pod("p", "10.200.0.1", func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "h", "other" }), "[10.200.0.1] ready=true serving=true terminating=false"},
		{"same node preferred", service(func(s *corev1.Service) { s.Spec.TrafficDistribution = new("PreferSameNode") }), pod("p", "10.200.0.1"),
			"[10.200.0.1] ready=true serving=true terminating=false hints=[{z1}][{n1}]"},
		{"same zone preferred", service(func(s *corev1.Service) { s.Spec.TrafficDistribution = new("PreferClose") }), pod("p", "10.200.0.1"),
			"[10.200.0.1] ready=true serving=true terminating=false hints=[{z1}][]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := makePlan(facts{service: tt.svc, pods: []*corev1.Pod{tt.pod}, node: nodes})
			if len(d.Create) != 1 {
				t.Fatalf("%d slices", len(d.Create))
			}
			got := ""
			if len(d.Create[0].Endpoints) > 0 {
				got = text(d.Create[0].Endpoints[0])
			}
			if got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestSliceOfAService(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	s := makePlan(facts{service: service(), pods: []*corev1.Pod{pod("p", "10.200.0.1")}, node: nodes, trigger: at}).Create[0]
	labels := map[string]string{"team": "a", discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: ManagedBy}
	if !maps.Equal(s.Labels, labels) || s.GenerateName != "web-" || s.OwnerReferences[0].UID != "svc" || s.OwnerReferences[0].Kind != "Service" {
		t.Errorf("metadata: %+v", s.ObjectMeta)
	}
	if got := s.Annotations[corev1.EndpointsLastChangeTriggerTime]; got != "2026-01-02T03:04:05.000006Z" {
		t.Errorf("trigger time %s", got)
	}
	if len(s.Ports) != 1 || *s.Ports[0].Port != 8080 || *s.Ports[0].Name != "http" {
		t.Errorf("ports: %+v", s.Ports)
	}
	headless := makePlan(facts{service: service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Ports = "None", nil }), pods: []*corev1.Pod{pod("p", "10.200.0.1")}, node: nodes}).Create[0]
	if _, ok := headless.Labels[corev1.IsHeadlessService]; !ok || len(headless.Ports) != 0 || len(headless.Endpoints) != 1 {
		t.Errorf("headless: %+v", headless)
	}
}

func TestDualStackHasASliceForEachFamily(t *testing.T) {
	svc := service(func(s *corev1.Service) {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	})
	p := pod("p", "10.200.0.1", func(p *corev1.Pod) { p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::1"}) })
	d := makePlan(facts{service: svc, pods: []*corev1.Pod{p}, node: nodes})
	got := map[discoveryv1.AddressType]string{}
	for _, s := range d.Create {
		got[s.AddressType] = s.Endpoints[0].Addresses[0]
	}
	if len(got) != 2 || got[discoveryv1.AddressTypeIPv4] != "10.200.0.1" || got[discoveryv1.AddressTypeIPv6] != "fd00::1" {
		t.Errorf("%v", got)
	}
}

func TestNamedPortsDifferByPod(t *testing.T) {
	other := pod("q", "10.200.0.2", func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 9090 })
	d := makePlan(facts{service: service(), pods: []*corev1.Pod{pod("p", "10.200.0.1"), other}, node: nodes})
	if len(d.Create) != 2 {
		t.Errorf("%d slices, want one for each port", len(d.Create))
	}
}
