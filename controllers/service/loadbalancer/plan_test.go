package loadbalancer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestParsePool(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.10-192.0.2.12":   "[192.0.2.10-192.0.2.12]",
		"192.0.2.0/29":            "[192.0.2.1-192.0.2.6]",
		"192.0.2.0/31":            "[192.0.2.0-192.0.2.1]",
		"192.0.2.7":               "[192.0.2.7-192.0.2.7]",
		"fd00::/120":              "[fd00::-fd00::ff]",
		"192.0.2.9,fd00::1":       "[192.0.2.9-192.0.2.9 fd00::1-fd00::1]",
		"192.0.2.12-192.0.2.10":   "not behind",
		"192.0.2.0/24,192.0.2.77": "overlaps",
		"x":                       "unable to parse",
		"192.0.2.1-fd00::1":       "not behind",
	} {
		pool, err := ParsePool(strings.Split(text, ","))
		got := fmt.Sprint(pool)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestPlan(t *testing.T) {
	pool, err := ParsePool([]string{"192.0.2.10-192.0.2.12", "fd00::1"})
	if err != nil {
		t.Fatal(err)
	}
	service := func(change func(*corev1.Service)) *corev1.Service {
		s := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
		change(s)
		return s
	}
	has := func(ips ...string) func(*corev1.Service) {
		return func(s *corev1.Service) {
			for _, ip := range ips {
				s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
			}
		}
	}
	for name, c := range map[string]struct {
		service *corev1.Service
		taken   string
		want    string
	}{
		"the first":          {service(has()), "", "[192.0.2.10] "},
		"the first free":     {service(has()), "192.0.2.10 192.0.2.11", "[192.0.2.12] "},
		"none is free":       {service(has()), "192.0.2.10 192.0.2.11 192.0.2.12", "[] no IPv4 address of the pool is free"},
		"keeps":              {service(has("192.0.2.12")), "", "[192.0.2.12] "},
		"not of the pool":    {service(has("198.51.100.1")), "", "[192.0.2.10] "},
		"another has it":     {service(has("192.0.2.10")), "192.0.2.10", "[192.0.2.11] "},
		"asked for":          {service(func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.11" }), "", "[192.0.2.11] "},
		"asked for, foreign": {service(func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.100.1" }), "", "[] 198.51.100.1, which it asks for, is not in the pool"},
		"asked for, taken":   {service(func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.11" }), "192.0.2.11", "[] 192.0.2.11, which it asks for, is another Service's"},
		"both families": {service(func(s *corev1.Service) {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		}), "", "[fd00::1 192.0.2.10] "},
		"another class":    {service(func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("x/y") }), "", "[] "},
		"no load balancer": {service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP; has("192.0.2.10")(s) }), "", "[] "},
	} {
		taken := map[netip.Addr]bool{}
		for _, ip := range strings.Fields(c.taken) {
			taken[netip.MustParseAddr(ip)] = true
		}
		want, problem := plan(c.service, pool, taken)
		if got := fmt.Sprintf("%v %s", want, problem); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
