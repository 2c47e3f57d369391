package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

const onceSet = "may not change once set"

// maxAffinitySeconds is the longest session affinity: a day.
const maxAffinitySeconds = 86400

func validateService(s *corev1.Service) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateTopologyAnnotations(s)
	errs = append(errs, check.OneOf(s.Spec.Type, path.Child("type"), corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)...)
	errs = append(errs, validateServiceType(s, path)...)
	errs = append(errs, validateServicePorts(s, path.Child("ports"))...)
	if s.Spec.Selector != nil {
		errs = append(errs, check.Labels(s.Spec.Selector, path.Child("selector"))...)
	}
	errs = append(errs, validateAffinityOfService(&s.Spec, path)...)
	errs = append(errs, validateClusterIPs(s, path)...)
	for i, ip := range s.Spec.ExternalIPs {
		at := path.Child("externalIPs").Index(i)
		if bad := check.IP(ip, at); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, check.EndpointIP(ip, at)...)
		}
	}
	errs = append(errs, validateLoadBalancer(s, path)...)
	return append(errs, validateTraffic(s, path)...)
}

func validateTopologyAnnotations(s *corev1.Service) field.ErrorList {
	hints, hinted := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	mode, moded := s.Annotations[corev1.AnnotationTopologyMode]
	if !hinted || !moded || hints == mode {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations").Key(corev1.AnnotationTopologyMode), mode,
		fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints))}
}

// validateServiceType checks what only some types may or must have.
func validateServiceType(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	spec := &s.Spec
	isName := spec.Type == corev1.ServiceTypeExternalName
	if len(spec.Ports) == 0 && !headless(s) && !isName {
		errs = append(errs, field.Required(path.Child("ports"), ""))
	}
	if headless(s) && (spec.Type == corev1.ServiceTypeLoadBalancer || spec.Type == corev1.ServiceTypeNodePort) {
		errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), corev1.ClusterIPNone,
			fmt.Sprintf("may not be set to 'None' for %s services", spec.Type)))
	}
	if !isName {
		return errs
	}
	const not = "may not be set for ExternalName services"
	if len(spec.ClusterIPs) > 0 {
		errs = append(errs, field.Forbidden(path.Child("clusterIPs"), not))
	}
	if len(spec.IPFamilies) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ipFamilies"), not))
	}
	if spec.IPFamilyPolicy != nil {
		errs = append(errs, field.Forbidden(path.Child("ipFamilyPolicy"), not))
	}
	// A trailing dot marks a fully qualified name.
	if name := strings.TrimSuffix(spec.ExternalName, "."); name == "" {
		errs = append(errs, field.Required(path.Child("externalName"), ""))
	} else {
		errs = append(errs, check.Subdomain(name, path.Child("externalName"))...)
	}
	return errs
}

func validateServicePorts(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type number struct {
		protocol corev1.Protocol
		port     int32
	}
	names, ports, nodePorts := map[string]bool{}, map[number]bool{}, map[number]bool{}
	for i, p := range s.Spec.Ports {
		at := path.Index(i)
		switch {
		case p.Name != "":
			errs = append(errs, check.DNSLabel(p.Name, at.Child("name"))...)
			if names[p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names[p.Name] = true
		case len(s.Spec.Ports) > 1:
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		errs = append(errs, check.Port(p.Port, at.Child("port"))...)
		errs = append(errs, check.OneOf(p.Protocol, at.Child("protocol"), protocols...)...)
		errs = append(errs, check.PortNumOrName(p.TargetPort, at.Child("targetPort"))...)
		if p.AppProtocol != nil {
			errs = append(errs, check.QualifiedName(*p.AppProtocol, at.Child("appProtocol"))...)
		}
		if p.NodePort != 0 {
			if s.Spec.Type == corev1.ServiceTypeClusterIP {
				errs = append(errs, field.Forbidden(at.Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			}
			if key := (number{p.Protocol, p.NodePort}); nodePorts[key] {
				errs = append(errs, field.Duplicate(at.Child("nodePort"), p.NodePort))
			} else {
				nodePorts[key] = true
			}
		}
		if key := (number{p.Protocol, p.Port}); ports[key] {
			errs = append(errs, field.Duplicate(at, corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}))
		} else {
			ports[key] = true
		}
	}
	return errs
}

func validateAffinityOfService(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	errs := check.OneOf(spec.SessionAffinity, path.Child("sessionAffinity"), corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	at, config := path.Child("sessionAffinityConfig"), spec.SessionAffinityConfig
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		if config != nil {
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("must not be set when session affinity is %s", corev1.ServiceAffinityNone)))
		}
	case corev1.ServiceAffinityClientIP:
		seconds := at.Child("clientIP", "timeoutSeconds")
		if config == nil || config.ClientIP == nil || config.ClientIP.TimeoutSeconds == nil {
			errs = append(errs, field.Required(seconds, fmt.Sprintf("when session affinity type is %s", corev1.ServiceAffinityClientIP)))
		} else if n := *config.ClientIP.TimeoutSeconds; n <= 0 || n > maxAffinitySeconds {
			errs = append(errs, field.Invalid(seconds, n, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
		}
	}
	return errs
}

// validateClusterIPs checks the addresses, their families and that the two fields for them agree.
func validateClusterIPs(s *corev1.Service, path *field.Path) field.ErrorList {
	spec := &s.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	at, ips := path.Child("clusterIPs"), spec.ClusterIPs
	errs := validateFamilies(spec, path)
	switch {
	case spec.ClusterIP == "" && len(ips) > 0:
		errs = append(errs, field.Invalid(at, ips, "must be empty when `clusterIP` is not specified"))
	case spec.ClusterIP != "" && len(ips) == 0:
		errs = append(errs, field.Required(at, ""))
	case spec.ClusterIP != "" && ips[0] != spec.ClusterIP:
		errs = append(errs, field.Invalid(at, ips, "first value must match `clusterIP`"))
	}
	if len(ips) > 2 {
		errs = append(errs, field.Invalid(at, ips, "may only hold up to 2 values"))
	}
	bad := false
	for i, ip := range ips {
		if i == 0 && ip == corev1.ClusterIPNone {
			if len(ips) > 1 {
				bad = true
				errs = append(errs, field.Invalid(at, ips, "'None' must be the first and only value"))
			}
			continue
		}
		if wrong := check.IP(ip, at.Index(i)); len(wrong) > 0 {
			bad = true
			errs = append(errs, wrong...)
		}
	}
	if bad || headless(s) {
		return errs
	}
	if !onePerFamily(ips) {
		errs = append(errs, field.Invalid(at, ips, "may specify no more than one IP for each IP family"))
	}
	for i := range min(len(ips), len(spec.IPFamilies)) {
		six := check.Family(ips[i]) == 6
		if want := spec.IPFamilies[i]; want == corev1.IPv4Protocol && six || want == corev1.IPv6Protocol && !six {
			errs = append(errs, field.Invalid(at.Index(i), ips[i], fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%v]`", want, i)))
		}
	}
	return errs
}

func validateFamilies(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, f := range spec.IPFamilies {
		at := path.Child("ipFamilies").Index(i)
		errs = append(errs, check.Among(f, at, corev1.IPv4Protocol, corev1.IPv6Protocol)...)
		if slices.Contains(spec.IPFamilies[:i], f) {
			errs = append(errs, field.Duplicate(at, f))
		}
	}
	if p := spec.IPFamilyPolicy; p != nil {
		errs = append(errs, check.Among(*p, path.Child("ipFamilyPolicy"),
			corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)...)
	}
	return errs
}

func validateLoadBalancer(s *corev1.Service, path *field.Path) field.ErrorList {
	const only = "may only be used when `type` is 'LoadBalancer'"
	var errs field.ErrorList
	spec := &s.Spec
	balanced := spec.Type == corev1.ServiceTypeLoadBalancer
	ranges := path.Child("LoadBalancerSourceRanges")
	if len(spec.LoadBalancerSourceRanges) > 0 {
		if !balanced {
			errs = append(errs, field.Forbidden(ranges, only))
		}
		for i, cidr := range spec.LoadBalancerSourceRanges {
			errs = append(errs, check.CIDR(strings.TrimSpace(cidr), ranges.Index(i))...)
		}
	} else if list, ok := s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]; ok {
		at := field.NewPath("metadata", "annotations").Key(corev1.AnnotationLoadBalancerSourceRangesKey)
		if !balanced {
			errs = append(errs, field.Forbidden(at, only))
		}
		if list = strings.TrimSpace(list); list != "" {
			for cidr := range strings.SplitSeq(list, ",") {
				errs = append(errs, check.CIDR(strings.TrimSpace(cidr), at)...)
			}
		}
	}
	if spec.AllocateLoadBalancerNodePorts != nil && !balanced {
		errs = append(errs, field.Forbidden(path.Child("allocateLoadBalancerNodePorts"), only))
	}
	if spec.LoadBalancerClass != nil {
		at := path.Child("loadBalancerClass")
		if !balanced {
			return append(errs, field.Forbidden(at, only))
		}
		errs = append(errs, check.QualifiedName(*spec.LoadBalancerClass, at)...)
	}
	return errs
}

func validateTraffic(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	spec := &s.Spec
	if at := path.Child("externalTrafficPolicy"); external(s) {
		errs = append(errs, check.OneOf(spec.ExternalTrafficPolicy, at, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	} else if spec.ExternalTrafficPolicy != "" {
		errs = append(errs, field.Invalid(at, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	}
	// A missing healthCheckNodePort is allocated, before or after this check.
	if at := path.Child("healthCheckNodePort"); spec.HealthCheckNodePort != 0 {
		if needsHealthPort(s) {
			errs = append(errs, check.Port(spec.HealthCheckNodePort, at)...)
		} else {
			errs = append(errs, field.Invalid(at, spec.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
		}
	}
	if p := spec.InternalTrafficPolicy; p != nil {
		errs = append(errs, check.Among(*p, path.Child("internalTrafficPolicy"), corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	}
	if d := spec.TrafficDistribution; d != nil {
		if known := []string{corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode}; !slices.Contains(known, *d) {
			errs = append(errs, field.NotSupported(path.Child("trafficDistribution"), *d, known))
		}
	}
	return errs
}

func validateServiceUpdate(s, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if s.Spec.Type != corev1.ServiceTypeExternalName && old.Spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, validateClusterIPChange(s, old, path)...)
		errs = append(errs, validateFamilyChange(s, old, path)...)
	}
	both := s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer
	if now, was := s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass; both && ((now == nil) != (was == nil) || deref(now) != deref(was)) {
		errs = append(errs, field.Invalid(path.Child("loadBalancerClass"), now, onceSet))
	}
	if needsHealthPort(s) && needsHealthPort(old) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(path.Child("healthCheckNodePort"), "field is immutable"))
	}
	return errs
}

// validateClusterIPChange keeps the first address for life; a second one may come and go.
func validateClusterIPChange(s, old *corev1.Service, path *field.Path) field.ErrorList {
	if headless(s) && headless(old) {
		return nil
	}
	now, was, at := s.Spec.ClusterIPs, old.Spec.ClusterIPs, path.Child("clusterIPs")
	if len(now) == 0 && len(was) > 0 {
		return field.ErrorList{field.Invalid(at.Index(0), now, "primary clusterIP can not be unset")}
	}
	var errs field.ErrorList
	for i := range min(len(now), len(was)) {
		if now[i] != was[i] {
			errs = append(errs, field.Invalid(at.Index(i), now, onceSet))
		}
	}
	if len(now) == 1 && len(was) > 1 && deref(s.Spec.IPFamilyPolicy) != corev1.IPFamilyPolicySingleStack {
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary clusterIP"))
	}
	return errs
}

func validateFamilyChange(s, old *corev1.Service, path *field.Path) field.ErrorList {
	if headless(s) || headless(old) {
		return nil
	}
	now, was, at := s.Spec.IPFamilies, old.Spec.IPFamilies, path.Child("ipFamilies")
	if len(now) == 0 && len(was) > 0 {
		return field.ErrorList{field.Invalid(at.Index(0), now, "primary ipFamily can not be unset")}
	}
	var errs field.ErrorList
	for i := range min(len(now), len(was)) {
		if now[i] != was[i] {
			errs = append(errs, field.Invalid(at.Index(0), now, onceSet))
		}
	}
	if len(now) == 1 && len(was) > 1 && deref(s.Spec.IPFamilyPolicy) != corev1.IPFamilyPolicySingleStack {
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary ipFamily"))
	}
	return errs
}

func validateServiceStatus(s, _ *corev1.Service) field.ErrorList {
	path := field.NewPath("status", "loadBalancer", "ingress")
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) > 0 {
		return field.ErrorList{field.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")}
	}
	var errs field.ErrorList
	for i, in := range s.Status.LoadBalancer.Ingress {
		at := path.Index(i)
		mode := at.Child("ipMode")
		if in.IP != "" {
			errs = append(errs, check.IP(in.IP, at.Child("ip"))...)
		}
		switch {
		case in.IPMode == nil && in.IP != "":
			errs = append(errs, field.Required(mode, "must be specified when `ip` is set"))
		case in.IPMode != nil && in.IP == "":
			errs = append(errs, field.Forbidden(mode, "may not be specified when `ip` is not set"))
		case in.IPMode != nil:
			errs = append(errs, check.Among(*in.IPMode, mode, corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)...)
		}
		if in.Hostname != "" {
			errs = append(errs, check.Each(at.Child("hostname"), in.Hostname, validation.IsDNS1123Subdomain(in.Hostname))...)
			if check.Family(in.Hostname) != 0 {
				errs = append(errs, field.Invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}
