package state

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// ServiceOf takes from a Service what the proxy needs. Nil: the service is not for a proxy, being headless, an ExternalName, or without an
// address yet. spec.externalIPs are taken only where allowed: whoever may write a Service could otherwise draw any address of any network to
// their own pods.
func ServiceOf(s *corev1.Service, allowExternalIPs bool) *Service {
	if s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	out := &Service{
		Name:           Name{s.Namespace, s.Name},
		Created:        s.CreationTimestamp.Time,
		InternalLocal:  s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal:  s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		PreferSameNode: s.Spec.TrafficDistribution != nil && *s.Spec.TrafficDistribution == corev1.ServiceTrafficDistributionPreferSameNode,
	}
	clusterIPs := s.Spec.ClusterIPs
	if len(clusterIPs) == 0 {
		clusterIPs = []string{s.Spec.ClusterIP}
	}
	out.ClusterIPs = parse(clusterIPs)
	if len(out.ClusterIPs) == 0 {
		return nil
	}
	for _, p := range s.Spec.Ports {
		if protocol, known := protocolOf(&p.Protocol); known {
			out.Ports = append(out.Ports, Port{Name: p.Name, Protocol: protocol, Port: uint16(p.Port), NodePort: uint16(p.NodePort)})
		}
	}
	if allowExternalIPs {
		out.ExternalIPs = parse(s.Spec.ExternalIPs)
	}
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.Affinity = affinityOf(s)
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		out.loadBalancer(s)
	}
	return out
}

func (out *Service) loadBalancer(s *corev1.Service) {
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			out.LoadBalancerIPs = append(out.LoadBalancerIPs, parse([]string{in.IP})...)
		}
	}
	out.ExternalIPs = append(out.ExternalIPs, out.LoadBalancerIPs...)
	for _, r := range s.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(r); err == nil {
			out.SourceRanges = append(out.SourceRanges, p)
		}
	}
	if out.ExternalLocal {
		out.HealthPort = uint16(s.Spec.HealthCheckNodePort)
	}
}

// affinityOf is the time a client sticks to its endpoint; the API's default is three hours.
func affinityOf(s *corev1.Service) time.Duration {
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	}
	return 3 * time.Hour
}

// SliceOf takes from an EndpointSlice what the proxy needs. Endpoints at addresses that no pod can have are left out: sent there, clients would
// reach this node's own loopback or its link.
func SliceOf(s *discoveryv1.EndpointSlice) Slice {
	var out Slice
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return out
	}
	for _, p := range s.Ports {
		protocol, known := protocolOf(p.Protocol)
		if p.Port == nil || !known {
			continue // a slice may say "all ports"; that is nothing to send a connection to
		}
		port := SlicePort{Protocol: protocol, Port: uint16(*p.Port)}
		if p.Name != nil {
			port.Name = *p.Name
		}
		out.Ports = append(out.Ports, port)
	}
	for _, e := range s.Endpoints {
		if len(e.Addresses) == 0 {
			continue
		}
		// All addresses of an endpoint are interchangeable and consumers use the first, says the API.
		a, err := netip.ParseAddr(e.Addresses[0])
		if err != nil || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
			continue
		}
		out.Endpoints = append(out.Endpoints, endpointOf(a, e))
	}
	return out
}

func endpointOf(a netip.Addr, e discoveryv1.Endpoint) Endpoint {
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	out := Endpoint{
		Addr:        a.Unmap(),
		Ready:       ready,
		Serving:     ready,
		Terminating: e.Conditions.Terminating != nil && *e.Conditions.Terminating,
	}
	if e.Conditions.Serving != nil {
		out.Serving = *e.Conditions.Serving
	}
	if e.NodeName != nil {
		out.Node = *e.NodeName
	}
	if e.Hints != nil {
		for _, n := range e.Hints.ForNodes {
			out.ForNodes = append(out.ForNodes, n.Name)
		}
		for _, z := range e.Hints.ForZones {
			out.ForZones = append(out.ForZones, z.Name)
		}
	}
	return out
}

// autoscalerTaint is what the cluster autoscaler puts on a node that it is about to remove.
const autoscalerTaint = "ToBeDeletedByClusterAutoscaler"

// NodeOf takes from this node's Node object what the proxy needs.
func NodeOf(n *corev1.Node) Node {
	out := Node{Name: n.Name, Zone: n.Labels[corev1.LabelTopologyZone], Leaving: n.DeletionTimestamp != nil}
	for _, t := range n.Spec.Taints {
		out.Leaving = out.Leaving || t.Key == autoscalerTaint
	}
	_, excluded := n.Labels[corev1.LabelNodeExcludeBalancers]
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Announces = c.Status == corev1.ConditionTrue && !out.Leaving && !excluded
		}
	}
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range n.Status.Addresses {
			if a.Type == kind {
				out.Addresses = append(out.Addresses, parse([]string{a.Address})...)
			}
		}
	}
	return out
}

func protocolOf(p *corev1.Protocol) (Protocol, bool) {
	if p == nil {
		return TCP, true
	}
	switch *p {
	case corev1.ProtocolTCP, "":
		return TCP, true
	case corev1.ProtocolUDP:
		return UDP, true
	case corev1.ProtocolSCTP:
		return SCTP, true
	}
	return 0, false
}

// parse keeps what is an address.
func parse(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}
