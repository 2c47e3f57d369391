package loadbalancer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Class is the load balancer class of this pool; Services without a class are served, too.
const Class = "hardway/pool"

// ours says whether a Service wants addresses of this pool.
func ours(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.DeletionTimestamp == nil &&
		(s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass == Class)
}

// addresses are those that a Service has.
func addresses(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// before orders Services: of two that have one address, the first keeps it.
func before(a, b *corev1.Service) bool {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID)) < 0
}

// plan returns the addresses that a Service should have, in the order of its families. taken are those of all others.
// The problem says what could not be given.
func plan(s *corev1.Service, pool Pool, taken map[netip.Addr]bool) (want []netip.Addr, problem string) {
	if !ours(s) {
		return nil, ""
	}
	asked, err := askedFor(s)
	if err != nil {
		return nil, err.Error()
	}
	have := addresses(s)
	for _, family := range families(s) {
		six := family == corev1.IPv6Protocol
		of := func(a netip.Addr) bool { return a.Is6() == six }
		switch i := slices.IndexFunc(have, func(a netip.Addr) bool { return of(a) && pool.has(a) && !taken[a] }); {
		case asked.IsValid() && of(asked) && !pool.has(asked):
			problem = fmt.Sprintf("%s, which it asks for, is not in the pool", asked)
		case asked.IsValid() && of(asked) && taken[asked]:
			problem = fmt.Sprintf("%s, which it asks for, is another Service's", asked)
		case asked.IsValid() && of(asked):
			want = append(want, asked)
		case i >= 0:
			want = append(want, have[i])
		default:
			a, ok := pool.free(six, taken)
			if !ok {
				problem = fmt.Sprintf("no %s address of the pool is free", family)
				continue
			}
			want = append(want, a)
		}
	}
	return want, problem
}

func families(s *corev1.Service) []corev1.IPFamily {
	if len(s.Spec.IPFamilies) > 0 {
		return s.Spec.IPFamilies
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

func askedFor(s *corev1.Service) (netip.Addr, error) {
	if s.Spec.LoadBalancerIP == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s.Spec.LoadBalancerIP)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("loadBalancerIP: %w", err)
	}
	return a, nil
}

// ingress writes addresses as a Service's status does.
func ingress(want []netip.Addr) []corev1.LoadBalancerIngress {
	var out []corev1.LoadBalancerIngress
	for _, a := range want {
		out = append(out, corev1.LoadBalancerIngress{IP: a.String(), IPMode: new(corev1.LoadBalancerIPModeVIP)})
	}
	return out
}
