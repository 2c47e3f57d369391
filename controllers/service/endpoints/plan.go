package endpoints

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/podstate"
	"hardway/controllers/service/selecting"
)

const (
	// managedByLabel marks Endpoints that are made from a selector.
	managedByLabel = "endpoints.kubernetes.io/managed-by"
	managedBy      = "endpoint-controller"
	// capacity is the most addresses that one Endpoints object holds; beyond it not ready ones are dropped first, and
	// the object is annotated.
	capacity = 1000
)

// facts are what a plan is made from.
type facts struct {
	service  *corev1.Service
	pods     []*corev1.Pod     // those that the Service selects
	existing *corev1.Endpoints // nil when there is none
	trigger  time.Time
}

// makePlan returns the Endpoints to write, nil when those that exist are right.
func makePlan(f facts) *corev1.Endpoints {
	subsets := subsetsOf(f.service, f.pods)
	truncated := truncate(subsets)
	labels := labelsOf(f.service)
	if f.existing != nil && equality.Semantic.DeepEqual(tidy(f.existing.Subsets), subsets) && maps.Equal(f.existing.Labels, labels) &&
		f.existing.Annotations[corev1.EndpointsOverCapacity] == overCapacity(truncated) {
		return nil
	}
	out := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: f.service.Namespace, Name: f.service.Name}}
	if f.existing != nil {
		out.ObjectMeta = *f.existing.ObjectMeta.DeepCopy()
	}
	out.Labels, out.Subsets = labels, subsets
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	trigger := ""
	if !f.trigger.IsZero() {
		trigger = f.trigger.UTC().Format(time.RFC3339Nano)
	}
	annotate(out.Annotations, corev1.EndpointsLastChangeTriggerTime, trigger)
	annotate(out.Annotations, corev1.EndpointsOverCapacity, overCapacity(truncated))
	return out
}

func annotate(annotations map[string]string, key, value string) {
	if value == "" {
		delete(annotations, key)
		return
	}
	annotations[key] = value
}

func overCapacity(truncated bool) string {
	if truncated {
		return "truncated"
	}
	return ""
}

// labelsOf are the Service's labels and our mark.
func labelsOf(svc *corev1.Service) map[string]string {
	out := maps.Clone(svc.Labels)
	if out == nil {
		out = map[string]string{}
	}
	delete(out, corev1.IsHeadlessService)
	if selecting.Headless(svc) {
		out[corev1.IsHeadlessService] = ""
	}
	out[managedByLabel] = managedBy
	return out
}

// subsetsOf groups the pods' addresses by the ports that they have and orders everything, so that equal facts give
// equal subsets.
func subsetsOf(svc *corev1.Service, pods []*corev1.Pod) []corev1.EndpointSubset {
	byPorts := map[string]*corev1.EndpointSubset{}
	for _, pod := range pods {
		if !selecting.Serves(pod, svc.Spec.PublishNotReadyAddresses) {
			continue
		}
		ip := addressOf(svc, pod)
		ports := portsOf(svc, pod)
		if ip == "" || (len(ports) == 0 && (len(svc.Spec.Ports) > 0 || svc.Spec.ClusterIP != corev1.ClusterIPNone)) {
			continue
		}
		key := portsKey(ports)
		subset := byPorts[key]
		if subset == nil {
			subset = &corev1.EndpointSubset{Ports: ports}
			byPorts[key] = subset
		}
		address := corev1.EndpointAddress{
			IP: ip, Hostname: selecting.Hostname(pod, svc),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		}
		if pod.Spec.NodeName != "" {
			address.NodeName = new(pod.Spec.NodeName)
		}
		if svc.Spec.PublishNotReadyAddresses || podstate.Ready(pod) {
			subset.Addresses = append(subset.Addresses, address)
		} else {
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
		}
	}
	out := make([]corev1.EndpointSubset, 0, len(byPorts))
	for _, subset := range byPorts {
		out = append(out, *subset)
	}
	return tidy(out)
}

// tidy returns the subsets in our order.
func tidy(in []corev1.EndpointSubset) []corev1.EndpointSubset {
	out := make([]corev1.EndpointSubset, 0, len(in))
	for _, s := range in {
		s.Addresses = slices.SortedFunc(slices.Values(s.Addresses), byAddress)
		s.NotReadyAddresses = slices.SortedFunc(slices.Values(s.NotReadyAddresses), byAddress)
		s.Ports = slices.SortedFunc(slices.Values(s.Ports), byPort)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b corev1.EndpointSubset) int { return cmp.Compare(portsKey(a.Ports), portsKey(b.Ports)) })
	return out
}

func byAddress(a, b corev1.EndpointAddress) int {
	uid := func(e corev1.EndpointAddress) string {
		if e.TargetRef == nil {
			return ""
		}
		return string(e.TargetRef.UID)
	}
	return cmp.Or(cmp.Compare(a.IP, b.IP), cmp.Compare(uid(a), uid(b)))
}

func byPort(a, b corev1.EndpointPort) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
}

func portsKey(ports []corev1.EndpointPort) string {
	var b strings.Builder
	for _, p := range slices.SortedFunc(slices.Values(ports), byPort) {
		b.WriteString(p.Name + "/" + string(p.Protocol) + "/" + strconv.Itoa(int(p.Port)) + " ")
	}
	return b.String()
}

// portsOf returns the Service's ports as this pod has them.
func portsOf(svc *corev1.Service, pod *corev1.Pod) []corev1.EndpointPort {
	var out []corev1.EndpointPort
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if number, ok := selecting.Port(pod, p); ok {
			out = append(out, corev1.EndpointPort{Name: p.Name, Port: number, Protocol: p.Protocol, AppProtocol: p.AppProtocol})
		}
	}
	return out
}

// addressOf returns the pod's address of the Service's first family: Endpoints hold one family only.
func addressOf(svc *corev1.Service, pod *corev1.Pod) string {
	six := false
	switch {
	case len(svc.Spec.IPFamilies) > 0:
		six = svc.Spec.IPFamilies[0] == corev1.IPv6Protocol
	default:
		addr, err := netip.ParseAddr(svc.Spec.ClusterIP)
		six = err == nil && addr.Is6()
	}
	ips := pod.Status.PodIPs
	if len(ips) == 0 {
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	for _, ip := range ips {
		if addr, err := netip.ParseAddr(ip.IP); err == nil && addr.Unmap().Is6() == six {
			return ip.IP
		}
	}
	return ""
}

// truncate cuts the subsets to the capacity, in place, each in proportion: not ready addresses first, ready ones only
// when they alone are too many.
func truncate(subsets []corev1.EndpointSubset) bool {
	ready, notReady := 0, 0
	for _, s := range subsets {
		ready += len(s.Addresses)
		notReady += len(s.NotReadyAddresses)
	}
	switch {
	case ready+notReady <= capacity:
		return false
	case ready > capacity:
		cut(subsets, capacity, ready, func(s *corev1.EndpointSubset) *[]corev1.EndpointAddress {
			s.NotReadyAddresses = nil
			return &s.Addresses
		})
	default:
		cut(subsets, capacity-ready, notReady, func(s *corev1.EndpointSubset) *[]corev1.EndpointAddress { return &s.NotReadyAddresses })
	}
	return true
}

func cut(subsets []corev1.EndpointSubset, room, total int, list func(*corev1.EndpointSubset) *[]corev1.EndpointAddress) {
	left := room
	for i := range subsets {
		addresses := list(&subsets[i])
		share := int(math.Ceil(float64(len(*addresses)) / float64(total) * float64(room)))
		n := min(share, left, len(*addresses))
		*addresses = (*addresses)[:n]
		left -= n
	}
}
