package endpointslice

import (
	"maps"
	"net/netip"
	slices0 "slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/podstate"
	"hardway/controllers/service/selecting"
	"hardway/controllers/service/slices"
)

// ManagedBy is the value of the label endpointslice.kubernetes.io/managed-by on slices that are made from a selector.
const ManagedBy = "endpointslice-controller.k8s.io"

// facts are what a plan is made from.
type facts struct {
	service  *corev1.Service
	pods     []*corev1.Pod // those that the Service selects
	node     func(name string) *corev1.Node
	existing []*discoveryv1.EndpointSlice // with our managed-by label and this Service's name
	trigger  time.Time
}

// makePlan compares the slices that the Service should have with those that exist. A Service that is being deleted gets
// nothing new.
func makePlan(f facts) slices.Diff {
	d := slices.Plan(makeWant(f), f.existing)
	if f.service.DeletionTimestamp != nil {
		d.Create = nil
	}
	return d
}

func makeWant(f facts) slices.Want {
	svc := f.service
	families := familiesOf(svc)
	w := slices.Want{
		Meta: metav1.ObjectMeta{
			Namespace:       svc.Namespace,
			GenerateName:    slices.Prefix(svc.Name),
			Labels:          labelsOf(svc),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(svc, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		Placeholders: families,
		Ours:         func(s *discoveryv1.EndpointSlice) bool { return ownedBy(s, svc) && contains(families, s.AddressType) },
	}
	if !f.trigger.IsZero() {
		w.Meta.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: f.trigger.UTC().Format(time.RFC3339Nano)}
	}
	for _, pod := range f.pods {
		if !selecting.Serves(pod, true) {
			continue
		}
		node := f.node(pod.Spec.NodeName)
		if node == nil && !svc.Spec.PublishNotReadyAddresses {
			continue // the pod's node is gone, or not known yet: its arrival brings us back
		}
		ports := portsOf(svc, pod)
		for _, family := range families {
			if e, ok := endpointOf(svc, pod, node, family); ok {
				w.Groups = append(w.Groups, slices.Group{Family: family, Ports: ports, Endpoints: []discoveryv1.Endpoint{e}})
			}
		}
	}
	return w
}

// endpointOf describes the pod as an endpoint; false when it has no address of the family.
func endpointOf(svc *corev1.Service, pod *corev1.Pod, node *corev1.Node, family discoveryv1.AddressType) (discoveryv1.Endpoint, bool) {
	addresses := addressesOf(pod, family)
	if len(addresses) == 0 {
		return discoveryv1.Endpoint{}, false
	}
	serving, terminating := podstate.Ready(pod), pod.DeletionTimestamp != nil
	e := discoveryv1.Endpoint{
		Addresses: addresses,
		Conditions: discoveryv1.EndpointConditions{
			Ready:       new(svc.Spec.PublishNotReadyAddresses || (serving && !terminating)),
			Serving:     &serving,
			Terminating: &terminating,
		},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		e.NodeName = new(pod.Spec.NodeName)
	}
	if node != nil && node.Labels[corev1.LabelTopologyZone] != "" {
		e.Zone = new(node.Labels[corev1.LabelTopologyZone])
	}
	if name := selecting.Hostname(pod, svc); name != "" {
		e.Hostname = &name
	}
	e.Hints = hintsOf(svc, &e)
	return e, true
}

// hintsOf says for whom an endpoint is meant, following spec.trafficDistribution: its own zone, and with PreferSameNode
// its own node first. Only ready endpoints have hints.
func hintsOf(svc *corev1.Service, e *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	if svc.Spec.TrafficDistribution == nil || !*e.Conditions.Ready {
		return nil
	}
	var h discoveryv1.EndpointHints
	switch *svc.Spec.TrafficDistribution {
	case corev1.ServiceTrafficDistributionPreferSameNode:
		if e.NodeName != nil {
			h.ForNodes = []discoveryv1.ForNode{{Name: *e.NodeName}}
		}
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
	default:
		return nil
	}
	if e.Zone != nil {
		h.ForZones = []discoveryv1.ForZone{{Name: *e.Zone}}
	}
	if len(h.ForZones)+len(h.ForNodes) == 0 {
		return nil
	}
	return &h
}

// addressesOf returns the pod's addresses of a family.
func addressesOf(pod *corev1.Pod, family discoveryv1.AddressType) []string {
	ips := pod.Status.PodIPs
	if len(ips) == 0 && pod.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	var out []string
	for _, ip := range ips {
		addr, err := netip.ParseAddr(ip.IP)
		if err == nil && (family == discoveryv1.AddressTypeIPv4) == addr.Unmap().Is4() {
			out = append(out, addr.Unmap().String())
		}
	}
	return out
}

// portsOf returns the Service's ports as this pod has them; a named port that the pod lacks is left out.
func portsOf(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	ports := []discoveryv1.EndpointPort{}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if number, ok := selecting.Port(pod, p); ok {
			ports = append(ports, discoveryv1.EndpointPort{Name: new(p.Name), Port: &number, Protocol: new(p.Protocol), AppProtocol: p.AppProtocol})
		}
	}
	return ports
}

// familiesOf returns the address families of the Service: as the API server recorded them, else the family of its
// cluster IP.
func familiesOf(svc *corev1.Service) []discoveryv1.AddressType {
	var out []discoveryv1.AddressType
	for _, f := range svc.Spec.IPFamilies {
		switch f {
		case corev1.IPv4Protocol:
			out = append(out, discoveryv1.AddressTypeIPv4)
		case corev1.IPv6Protocol:
			out = append(out, discoveryv1.AddressTypeIPv6)
		}
	}
	if len(out) > 0 {
		return out
	}
	if addr, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil && addr.Is6() {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv6}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
}

// labelsOf are the Service's own labels and those that lead from a slice back to it.
func labelsOf(svc *corev1.Service) map[string]string {
	out := maps.Clone(svc.Labels)
	if out == nil {
		out = map[string]string{}
	}
	delete(out, corev1.IsHeadlessService)
	if selecting.Headless(svc) {
		out[corev1.IsHeadlessService] = ""
	}
	out[discoveryv1.LabelServiceName] = svc.Name
	out[discoveryv1.LabelManagedBy] = ManagedBy
	return out
}

func ownedBy(s *discoveryv1.EndpointSlice, svc *corev1.Service) bool {
	for _, ref := range s.OwnerReferences {
		if ref.UID == svc.UID && ref.Kind == "Service" && ref.APIVersion == "v1" {
			return true
		}
	}
	return false
}

func contains(families []discoveryv1.AddressType, f discoveryv1.AddressType) bool {
	return slices0.Contains(families, f)
}
