package mirroring

import (
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/service/slices"
)

const (
	// ManagedBy is the value of the label endpointslice.kubernetes.io/managed-by on slices that mirror Endpoints.
	ManagedBy = "endpointslicemirroring-controller.k8s.io"
	// perSubset is the most addresses of one subset that are mirrored; the rest is named in an Event.
	perSubset = 1000
	// leaderAnnotation marks Endpoints that old clients use as a lock; they are not mirrored.
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
)

// mirrored reports whether slices are made from these Endpoints: their Service exists, has no selector, and nobody
// asked to skip them.
func mirrored(ep *corev1.Endpoints, svc *corev1.Service) bool {
	if ep == nil || svc == nil || len(svc.Spec.Selector) > 0 || ep.Labels[discoveryv1.LabelSkipMirror] == "true" {
		return false
	}
	_, lock := ep.Annotations[leaderAnnotation]
	return !lock
}

// outcome is a plan and what could not be mirrored.
type outcome struct {
	slices.Diff
	invalid int // addresses that are no IP
	skipped int // addresses beyond perSubset
}

// makePlan compares the slices that mirror the Endpoints with those that exist.
func makePlan(ep *corev1.Endpoints, existing []*discoveryv1.EndpointSlice) outcome {
	var out outcome
	w := slices.Want{
		Meta: metav1.ObjectMeta{
			Namespace: ep.Namespace, GenerateName: slices.Prefix(ep.Name), Labels: labelsOf(ep), Annotations: annotationsOf(ep),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ep, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		ExactAnnotations: true,
		Ours:             func(*discoveryv1.EndpointSlice) bool { return true },
	}
	for _, subset := range ep.Subsets {
		ports := portsOf(subset.Ports)
		n := 0
		add := func(addresses []corev1.EndpointAddress, ready bool) {
			for _, a := range addresses {
				if n >= perSubset {
					out.skipped++
					continue
				}
				family, e, ok := endpointOf(a, ready)
				if !ok {
					out.invalid++
					continue
				}
				n++
				w.Groups = append(w.Groups, slices.Group{Family: family, Ports: ports, Endpoints: []discoveryv1.Endpoint{e}})
			}
		}
		add(subset.Addresses, true)
		add(subset.NotReadyAddresses, false)
	}
	out.Diff = slices.Plan(w, existing)
	if ep.DeletionTimestamp != nil {
		out.Create = nil
	}
	return out
}

func endpointOf(a corev1.EndpointAddress, ready bool) (discoveryv1.AddressType, discoveryv1.Endpoint, bool) {
	addr, err := netip.ParseAddr(a.IP)
	if err != nil {
		return "", discoveryv1.Endpoint{}, false
	}
	family := discoveryv1.AddressTypeIPv6
	if addr.Unmap().Is4() {
		family = discoveryv1.AddressTypeIPv4
	}
	e := discoveryv1.Endpoint{
		Addresses: []string{addr.Unmap().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName,
	}
	if a.Hostname != "" {
		e.Hostname = &a.Hostname
	}
	return family, e, true
}

func portsOf(in []corev1.EndpointPort) []discoveryv1.EndpointPort {
	out := make([]discoveryv1.EndpointPort, 0, len(in))
	for _, p := range in {
		out = append(out, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
	}
	return out
}

func labelsOf(ep *corev1.Endpoints) map[string]string {
	out := maps.Clone(ep.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out[discoveryv1.LabelServiceName] = ep.Name
	out[discoveryv1.LabelManagedBy] = ManagedBy
	return out
}

func annotationsOf(ep *corev1.Endpoints) map[string]string {
	out := maps.Clone(ep.Annotations)
	delete(out, corev1.EndpointsLastChangeTriggerTime)
	delete(out, corev1.LastAppliedConfigAnnotation)
	return out
}
