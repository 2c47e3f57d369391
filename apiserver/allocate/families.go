package allocate

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var specPath = field.NewPath("spec")

func invalid(s *corev1.Service, errs ...*field.Error) error {
	return apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, s.Name, errs)
}

func policyOf(s *corev1.Service) corev1.IPFamilyPolicy {
	if s.Spec.IPFamilyPolicy == nil {
		return ""
	}
	return *s.Spec.IPFamilyPolicy
}

func headless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone || s.Spec.ClusterIP == corev1.ClusterIPNone
}

// families fills ipFamilyPolicy and ipFamilies from what the Service says and the cluster has. configured are the
// families of the service ranges, the default one first.
func families(s, old *corev1.Service, configured []corev1.IPFamily) error {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	unselected := headless(s) && len(s.Spec.Selector) == 0
	if s.Spec.IPFamilyPolicy == nil {
		s.Spec.IPFamilyPolicy = defaultPolicy(old, unselected)
	}
	if old != nil && policyOf(s) == corev1.IPFamilyPolicySingleStack {
		// Keeping both addresses but asking for a single stack gives the second one up.
		if len(s.Spec.ClusterIPs) > 1 && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
			s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1]
		}
		if len(s.Spec.IPFamilies) > 1 && slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
			s.Spec.IPFamilies = s.Spec.IPFamilies[:1]
		}
	}
	if errs := checkPolicy(s); len(errs) > 0 {
		return invalid(s, errs...)
	}
	if errs := inferFamilies(s, configured); len(errs) > 0 {
		return invalid(s, errs...)
	}
	if unselected {
		// Nothing is allocated and nobody fills the endpoints: any family may appear.
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = configured[:1:1]
		}
		if policyOf(s) != corev1.IPFamilyPolicySingleStack {
			addOther(s)
		}
		return nil
	}
	if errs := checkConfigured(s, configured); len(errs) > 0 {
		return invalid(s, errs...)
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = configured[:1:1]
	}
	// A PreferDualStack Service that exists stays as it is until the client touches its addresses.
	settled := old != nil && policyOf(s) == corev1.IPFamilyPolicyPreferDualStack && policyOf(old) == policyOf(s) &&
		slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) && slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies)
	if policyOf(s) != corev1.IPFamilyPolicySingleStack && len(configured) == 2 && !settled {
		addOther(s)
	}
	return nil
}

func defaultPolicy(old *corev1.Service, unselected bool) *corev1.IPFamilyPolicy {
	if old != nil && old.Spec.IPFamilyPolicy != nil {
		return old.Spec.IPFamilyPolicy
	}
	policy := corev1.IPFamilyPolicySingleStack
	if unselected {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	return &policy
}

// addOther adds the family that a Service with one lacks.
func addOther(s *corev1.Service) {
	if len(s.Spec.IPFamilies) != 1 {
		return
	}
	other := corev1.IPv6Protocol
	if s.Spec.IPFamilies[0] == corev1.IPv6Protocol {
		other = corev1.IPv4Protocol
	}
	s.Spec.IPFamilies = append(slices.Clone(s.Spec.IPFamilies), other)
}

func checkPolicy(s *corev1.Service) field.ErrorList {
	if policyOf(s) != corev1.IPFamilyPolicySingleStack {
		return nil
	}
	var errs field.ErrorList
	const must = "must be 'RequireDualStack' or 'PreferDualStack' when multiple %s are specified"
	if len(s.Spec.ClusterIPs) == 2 {
		errs = append(errs, field.Invalid(specPath.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, fmt.Sprintf(must, "cluster IPs")))
	}
	if len(s.Spec.IPFamilies) == 2 {
		errs = append(errs, field.Invalid(specPath.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, fmt.Sprintf(must, "IP families")))
	}
	return errs
}

// inferFamilies adds the families of addresses that the Service names.
func inferFamilies(s *corev1.Service, configured []corev1.IPFamily) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range s.Spec.ClusterIPs {
		path := specPath.Child("clusterIPs").Index(i)
		if ip == corev1.ClusterIPNone {
			break
		}
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			errs = append(errs, field.Invalid(path, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
			continue
		}
		family := familyOf(addr)
		switch {
		case i < len(s.Spec.IPFamilies):
			if s.Spec.IPFamilies[i] != family {
				errs = append(errs, field.Invalid(specPath.Child("ipFamilies").Index(i), s.Spec.IPFamilies[i],
					fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", s.Spec.IPFamilies[i], i)))
			}
		case !slices.Contains(configured, family):
			errs = append(errs, field.Invalid(path, s.Spec.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", family)))
		default:
			s.Spec.IPFamilies = append(slices.Clone(s.Spec.IPFamilies), family)
		}
	}
	return errs
}

func checkConfigured(s *corev1.Service, configured []corev1.IPFamily) field.ErrorList {
	var errs field.ErrorList
	if policyOf(s) == corev1.IPFamilyPolicyRequireDualStack && len(configured) < 2 {
		errs = append(errs, field.Invalid(specPath.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy,
			"this cluster is not configured for dual-stack services"))
	}
	for i, f := range s.Spec.IPFamilies {
		if !slices.Contains(configured, f) {
			errs = append(errs, field.Invalid(specPath.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	return errs
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}
