package mirroring

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func endpoints(ips ...string) *corev1.Endpoints {
	ep := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "ext", UID: "e", Annotations: map[string]string{
		"a": "b", corev1.EndpointsLastChangeTriggerTime: "x", corev1.LastAppliedConfigAnnotation: "{}",
	}}}
	var addresses []corev1.EndpointAddress
	for _, ip := range ips {
		addresses = append(addresses, corev1.EndpointAddress{IP: ip})
	}
	ep.Subsets = []corev1.EndpointSubset{{Addresses: addresses, Ports: []corev1.EndpointPort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
	return ep
}

func TestPlan(t *testing.T) {
	out := makePlan(endpoints("192.0.2.1", "fd00::1", "nonsense"), nil)
	if len(out.Create) != 2 || out.invalid != 1 {
		t.Fatalf("%d slices, %d invalid", len(out.Create), out.invalid)
	}
	for i, s := range out.Create {
		s.Name = string(rune('a' + i))
		if len(s.Annotations) != 1 || s.Annotations["a"] != "b" || s.Labels[discoveryv1.LabelServiceName] != "ext" || s.Labels[discoveryv1.LabelManagedBy] != ManagedBy || s.OwnerReferences[0].Kind != "Endpoints" {
			t.Errorf("slice %+v", s.ObjectMeta)
		}
	}
	if again := makePlan(endpoints("192.0.2.1", "fd00::1"), out.Create); !again.Empty() {
		t.Errorf("a second plan: %+v", again.Diff)
	}
	if gone := makePlan(endpoints(), out.Create); len(gone.Delete) != 2 || len(gone.Create) != 0 {
		t.Errorf("without addresses: %+v", gone.Diff)
	}
}

func TestTooMany(t *testing.T) {
	ep := endpoints()
	for n := range perSubset + 5 {
		ep.Subsets[0].Addresses = append(ep.Subsets[0].Addresses, corev1.EndpointAddress{IP: "10.1." + string(rune('0'+n%10)) + ".1"})
	}
	if out := makePlan(ep, nil); out.skipped != 5 {
		t.Errorf("%d skipped", out.skipped)
	}
}

func TestMirrored(t *testing.T) {
	plain := &corev1.Service{}
	selecting := &corev1.Service{Spec: corev1.ServiceSpec{Selector: map[string]string{"a": "b"}}}
	skipped, lock := endpoints(), endpoints()
	skipped.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
	lock.Annotations[leaderAnnotation] = "{}"
	for name, tt := range map[string]struct {
		ep   *corev1.Endpoints
		svc  *corev1.Service
		want bool
	}{
		"by hand": {endpoints(), plain, true}, "with selector": {endpoints(), selecting, false}, "without service": {endpoints(), nil, false},
		"skipped": {skipped, plain, false}, "a lock": {lock, plain, false}, "no endpoints": {nil, plain, false},
	} {
		if got := mirrored(tt.ep, tt.svc); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
