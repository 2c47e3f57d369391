package endpoints

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{ClusterIP: "10.32.0.5", Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{
			{Name: "a", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)},
			{Name: "b", Port: 81, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromString("dns")},
		}},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

func pod(n int, ready bool, dns int32) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", n), UID: types.UID(fmt.Sprint("u", n))},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{}}},
		Status: corev1.PodStatus{PodIP: fmt.Sprintf("10.200.%d.%d", n/250, n%250), Phase: corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
	}
	if dns > 0 {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "dns", ContainerPort: dns, Protocol: corev1.ProtocolUDP}}
	}
	return p
}

func text(ep *corev1.Endpoints) string {
	var out []string
	for _, s := range ep.Subsets {
		var line []string
		for _, p := range s.Ports {
			line = append(line, fmt.Sprintf("%s:%d/%s", p.Name, p.Port, p.Protocol))
		}
		for _, a := range s.Addresses {
			line = append(line, "+"+a.IP)
		}
		for _, a := range s.NotReadyAddresses {
			line = append(line, "-"+a.IP)
		}
		out = append(out, strings.Join(line, " "))
	}
	return strings.Join(out, "; ")
}

func TestSubsets(t *testing.T) {
	tests := []struct {
		name string
		svc  *corev1.Service
		pods []*corev1.Pod
		want string
	}{
		{"none", service(), nil, ""},
		{"ready and not", service(), []*corev1.Pod{pod(2, true, 53), pod(1, false, 53)}, "a:8080/TCP b:53/UDP +10.200.0.2 -10.200.0.1"},
		{"without the named port", service(), []*corev1.Pod{pod(1, true, 0)}, "a:8080/TCP +10.200.0.1"},
		{"another named port", service(), []*corev1.Pod{pod(1, true, 53), pod(2, true, 54)}, "a:8080/TCP b:53/UDP +10.200.0.1; a:8080/TCP b:54/UDP +10.200.0.2"},
		{"published though not ready", service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), []*corev1.Pod{pod(1, false, 53)}, "a:8080/TCP b:53/UDP +10.200.0.1"},
		{"headless without ports", service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Ports = "None", nil }), []*corev1.Pod{pod(1, true, 0)}, "+10.200.0.1"},
		{"another family", service(func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }), []*corev1.Pod{pod(1, true, 53)}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ep := makePlan(facts{service: tt.svc, pods: tt.pods})
			if got := text(ep); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if again := makePlan(facts{service: tt.svc, pods: tt.pods, existing: ep}); again != nil {
				t.Errorf("a second plan: %s", text(again))
			}
		})
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	var pods []*corev1.Pod
	for n := range 50 {
		pods = append(pods, pod(n, n%3 > 0, int32(53+n%2)))
	}
	first := makePlan(facts{service: service(), pods: pods})
	for range 20 {
		rand.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
		if again := makePlan(facts{service: service(), pods: pods, existing: first}); again != nil {
			t.Fatalf("another order makes another plan: %s", text(again))
		}
	}
}

func TestCapacity(t *testing.T) {
	count := func(ep *corev1.Endpoints) (ready, not int) {
		for _, s := range ep.Subsets {
			ready += len(s.Addresses)
			not += len(s.NotReadyAddresses)
		}
		return ready, not
	}
	for _, tt := range []struct{ ready, not, wantReady, wantNot int }{{900, 50, 900, 50}, {900, 300, 900, 100}, {1200, 300, 1000, 0}} {
		var pods []*corev1.Pod
		for n := range tt.ready + tt.not {
			pods = append(pods, pod(n, n < tt.ready, 53))
		}
		ep := makePlan(facts{service: service(), pods: pods})
		ready, not := count(ep)
		if ready != tt.wantReady || not != tt.wantNot {
			t.Errorf("%d+%d: kept %d+%d", tt.ready, tt.not, ready, not)
		}
		if over := ep.Annotations[corev1.EndpointsOverCapacity] == "truncated"; over != (tt.ready+tt.not > capacity) {
			t.Errorf("%d+%d: annotations %v", tt.ready, tt.not, ep.Annotations)
		}
		if makePlan(facts{service: service(), pods: pods, existing: ep}) != nil {
			t.Errorf("%d+%d: a second plan", tt.ready, tt.not)
		}
	}
}

func TestMetadata(t *testing.T) {
	old := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "7", Labels: map[string]string{"stale": "x"}, Annotations: map[string]string{"keep": "y"}}}
	ep := makePlan(facts{service: service(), existing: old, trigger: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	if ep.ResourceVersion != "7" || ep.Labels["team"] != "a" || ep.Labels["stale"] != "" || ep.Labels[managedByLabel] != managedBy || ep.Annotations["keep"] != "y" ||
		ep.Annotations[corev1.EndpointsLastChangeTriggerTime] != "2026-01-02T03:04:05Z" {
		t.Errorf("%+v", ep.ObjectMeta)
	}
}
