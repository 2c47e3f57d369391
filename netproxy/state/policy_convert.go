package state

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// PolicyOf takes from a NetworkPolicy what the proxy needs. What the API should not have let in is an error; the rest of the policy counts all
// the same, without the rules and peers in question, so that a mistake never opens what a policy closes.
func PolicyOf(p *networkingv1.NetworkPolicy) (*Policy, error) {
	c := policyConverter{}
	out := &Policy{Pods: c.selector(&p.Spec.PodSelector)}
	ingress, egress := len(p.Spec.PolicyTypes) == 0, len(p.Spec.PolicyTypes) == 0 && len(p.Spec.Egress) > 0
	for _, t := range p.Spec.PolicyTypes {
		ingress = ingress || t == networkingv1.PolicyTypeIngress
		egress = egress || t == networkingv1.PolicyTypeEgress
	}
	if ingress {
		out.Ingress = &[]PolicyRule{}
		for _, r := range p.Spec.Ingress {
			c.rule(out.Ingress, r.From, r.Ports)
		}
	}
	if egress {
		out.Egress = &[]PolicyRule{}
		for _, r := range p.Spec.Egress {
			c.rule(out.Egress, r.To, r.Ports)
		}
	}
	return out, c.err
}

// policyConverter keeps the first error.
type policyConverter struct{ err error }

func (c *policyConverter) note(err error) {
	if c.err == nil {
		c.err = err
	}
}

// selector gives a selector of nothing for one that does not parse.
func (c *policyConverter) selector(s *metav1.LabelSelector) labels.Selector {
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		c.note(fmt.Errorf("selector: %w", err))
		return labels.Nothing()
	}
	return out
}

// rule adds a rule, unless it named peers or ports and none of them can be used.
func (c *policyConverter) rule(to *[]PolicyRule, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
	var out PolicyRule
	for _, p := range peers {
		if peer, ok := c.peer(p); ok {
			out.Peers = append(out.Peers, peer)
		}
	}
	for _, p := range ports {
		if port, ok := c.port(p); ok {
			out.Ports = append(out.Ports, port)
		}
	}
	if len(peers) > 0 && len(out.Peers) == 0 || len(ports) > 0 && len(out.Ports) == 0 {
		return
	}
	*to = append(*to, out)
}

func (c *policyConverter) peer(p networkingv1.NetworkPolicyPeer) (PolicyPeer, bool) {
	if p.IPBlock == nil {
		out := PolicyPeer{Pods: labels.Everything()}
		if p.PodSelector != nil {
			out.Pods = c.selector(p.PodSelector)
		}
		if p.NamespaceSelector != nil {
			out.Namespaces = c.selector(p.NamespaceSelector)
		}
		return out, p.PodSelector != nil || p.NamespaceSelector != nil
	}
	block, err := netip.ParsePrefix(p.IPBlock.CIDR)
	if err != nil {
		c.note(fmt.Errorf("ipBlock: %w", err))
		return PolicyPeer{}, false
	}
	out := PolicyPeer{Block: block.Masked()}
	for _, e := range p.IPBlock.Except {
		except, err := netip.ParsePrefix(e)
		if err != nil {
			c.note(fmt.Errorf("ipBlock %s: except: %w", block, err))
			return PolicyPeer{}, false
		}
		out.Except = append(out.Except, except.Masked())
	}
	return out, true
}

func (c *policyConverter) port(p networkingv1.NetworkPolicyPort) (PolicyPort, bool) {
	protocol, known := protocolOf(p.Protocol)
	if !known {
		c.note(fmt.Errorf("port of the unknown protocol %q", *p.Protocol))
		return PolicyPort{}, false
	}
	out := PolicyPort{Protocol: protocol, From: 0, To: 65535}
	switch {
	case p.Port == nil:
	case p.Port.Type == intstr.String:
		out.Name = p.Port.StrVal
	default:
		out.From, out.To = uint16(p.Port.IntVal), uint16(p.Port.IntVal)
		if p.EndPort != nil {
			out.To = uint16(*p.EndPort)
		}
	}
	return out, out.From <= out.To
}

// PodOf takes from a Pod what policies need. Nil: no policy can tell it from its node, or it has no address yet or any more.
func PodOf(p *corev1.Pod) *Pod {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	out := &Pod{Created: p.CreationTimestamp.Time, Node: p.Spec.NodeName, Labels: p.Labels}
	for _, ip := range p.Status.PodIPs {
		out.Addrs = append(out.Addrs, parse([]string{ip.IP})...)
	}
	if len(out.Addrs) == 0 {
		out.Addrs = parse([]string{p.Status.PodIP})
	}
	if len(out.Addrs) == 0 {
		return nil
	}
	// Containers that keep running beside the others are init containers with a restart policy: sidecars.
	containers := slices.Clone(p.Spec.Containers)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for _, container := range containers {
		for _, port := range container.Ports {
			if protocol, known := protocolOf(&port.Protocol); known && port.Name != "" {
				out.Ports = append(out.Ports, PodPort{Name: port.Name, Protocol: protocol, Port: uint16(port.ContainerPort)})
			}
		}
	}
	return out
}
