package core

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// protocols are the transports of ports.
var protocols = []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}

// Service is one address, and often a name, for a set of pods. The registry's hooks fill in what is allocated: cluster
// IPs, IP families, node ports.
var Service = resource.Define(scheme.Types, resource.Spec[corev1.Service]{
	Names: resource.Names{
		Version: "v1", Kind: "Service", Plural: "services", Short: []string{"svc"}, Categories: []string{"all"},
	},
	Scope:                    resource.Namespaced,
	StorageKey:               "services/specs",
	Default:                  defaultService,
	SetStatus:                func(dst, src *corev1.Service) { src.Status.DeepCopyInto(&dst.Status) },
	Prepare:                  prepareService,
	Validate:                 validateService,
	ValidateUpdate:           validateServiceUpdate,
	ValidateName:             validation.IsDNS1123Label,
	ValidateStatusUpdate:     validateServiceStatus,
	Warnings:                 warnService,
	AllowCreateOnUpdate:      true,
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Fields: map[string]func(*corev1.Service) string{
		"spec.clusterIP": func(s *corev1.Service) string { return s.Spec.ClusterIP },
		"spec.type":      func(s *corev1.Service) string { return string(s.Spec.Type) },
	},
	Columns: serviceColumns(),
	Subresources: []resource.Subresource{
		{Name: "proxy", Kind: corev1.SchemeGroupVersion.WithKind("ServiceProxyOptions"), Verbs: proxyVerbs},
	},
})

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	if spec.Type == "" {
		spec.Type = corev1.ServiceTypeClusterIP
	}
	defaultAffinity(spec)
	for i := range spec.Ports {
		p := &spec.Ports[i]
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if external(s) && spec.ExternalTrafficPolicy == "" {
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	if spec.InternalTrafficPolicy == nil && spec.Type != corev1.ServiceTypeExternalName {
		policy := corev1.ServiceInternalTrafficPolicyCluster
		spec.InternalTrafficPolicy = &policy
	}
	if spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	if spec.AllocateLoadBalancerNodePorts == nil {
		yes := true
		spec.AllocateLoadBalancerNodePorts = &yes
	}
	for i := range s.Status.LoadBalancer.Ingress {
		if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" && in.IPMode == nil {
			mode := corev1.LoadBalancerIPModeVIP
			in.IPMode = &mode
		}
	}
}

func defaultAffinity(spec *corev1.ServiceSpec) {
	if spec.SessionAffinity == "" {
		spec.SessionAffinity = corev1.ServiceAffinityNone
	}
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		spec.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		c := spec.SessionAffinityConfig
		if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			seconds := corev1.DefaultClientIPServiceAffinitySeconds
			spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
		}
	}
}

// external says that a Service can be reached from outside the cluster.
func external(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer || s.Spec.Type == corev1.ServiceTypeNodePort ||
		s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}

func headless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone || s.Spec.ClusterIP == corev1.ClusterIPNone
}

func needsClusterIP(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeExternalName }

func needsNodePorts(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

func needsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// prepareService finds out what a client means that leaves out what was allocated for it, or speaks only of clusterIP:
// an update without them keeps what is there, and what a new type no longer needs goes.
func prepareService(_ context.Context, s, old *corev1.Service) {
	if old == nil {
		if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		}
		return
	}
	keepAllocated(s, old)
	matchClusterIPs(s, old)
	dropUnneeded(s, old)
}

func keepAllocated(s, old *corev1.Service) {
	if needsClusterIP(old) && needsClusterIP(s) {
		if s.Spec.ClusterIP == "" {
			s.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
		// Not upstream's place, but its effect: the allocator there keeps the families it once chose.
		if len(s.Spec.IPFamilies) == 0 && len(s.Spec.ClusterIPs) == len(old.Spec.ClusterIPs) {
			s.Spec.IPFamilies = slices.Clone(old.Spec.IPFamilies)
		}
		if s.Spec.IPFamilyPolicy == nil {
			s.Spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
		}
	}
	if needsNodePorts(old) && needsNodePorts(s) {
		keepNodePorts(s, old)
	}
	if needsHealthPort(old) && needsHealthPort(s) && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// keepNodePorts gives a port without a node port the one that the old port of that name had, unless another takes it.
func keepNodePorts(s, old *corev1.Service) {
	taken, was := map[int32]bool{}, map[string]int32{}
	for _, p := range s.Spec.Ports {
		taken[p.NodePort] = true
	}
	for _, p := range old.Spec.Ports {
		was[p.Name] = p.NodePort
	}
	for i := range s.Spec.Ports {
		if p := &s.Spec.Ports[i]; p.NodePort == 0 && !taken[was[p.Name]] {
			p.NodePort = was[p.Name]
		}
	}
}

// matchClusterIPs lets clients that know only clusterIP change or clear it.
func matchClusterIPs(s, old *corev1.Service) {
	if s.Spec.ClusterIP == old.Spec.ClusterIP || !slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
		return
	}
	if s.Spec.ClusterIP == "" {
		s.Spec.ClusterIPs = nil
	} else {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// dropUnneeded clears what the Service's new type has no use for and the client did not touch.
func dropUnneeded(s, old *corev1.Service) {
	now, was := &s.Spec, &old.Spec
	if needsClusterIP(old) && !needsClusterIP(s) {
		if now.ClusterIP == was.ClusterIP && slices.Equal(now.ClusterIPs, was.ClusterIPs) {
			now.ClusterIP, now.ClusterIPs = "", nil
		}
		if slices.Equal(now.IPFamilies, was.IPFamilies) {
			now.IPFamilies = nil
		}
		if deref(now.IPFamilyPolicy) == deref(was.IPFamilyPolicy) {
			now.IPFamilyPolicy = nil
		}
	}
	ported := func(s *corev1.Service) bool {
		return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
	}
	if ported(old) && !ported(s) && noNewNodePort(now.Ports, was.Ports) {
		for i := range now.Ports {
			now.Ports[i].NodePort = 0
		}
	}
	if needsHealthPort(old) && !needsHealthPort(s) && now.HealthCheckNodePort == was.HealthCheckNodePort {
		now.HealthCheckNodePort = 0
	}
	if was.Type == corev1.ServiceTypeLoadBalancer && now.Type != corev1.ServiceTypeLoadBalancer {
		if deref(now.AllocateLoadBalancerNodePorts) == deref(was.AllocateLoadBalancerNodePorts) {
			now.AllocateLoadBalancerNodePorts = nil
		}
		if deref(now.LoadBalancerClass) == deref(was.LoadBalancerClass) {
			now.LoadBalancerClass = nil
		}
	}
	if external(old) && !external(s) && now.ExternalTrafficPolicy == was.ExternalTrafficPolicy {
		now.ExternalTrafficPolicy = ""
	}
	if now.Type != corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
}

func noNewNodePort(now, was []corev1.ServicePort) bool {
	for _, p := range now {
		if p.NodePort != 0 && !slices.ContainsFunc(was, func(w corev1.ServicePort) bool { return w.NodePort == p.NodePort }) {
			return false
		}
	}
	return true
}

// deref is the value of p, or the zero value.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func warnService(s, _ *corev1.Service) []string {
	var w []string
	spec, path := &s.Spec, field.NewPath("spec")
	if _, ok := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]; ok {
		w = append(w, fmt.Sprintf("annotation %s is deprecated, please use %s instead", corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode))
	}
	none := spec.Type == corev1.ServiceTypeClusterIP && headless(s)
	if !headless(s) {
		for i, ip := range spec.ClusterIPs {
			w = append(w, validation.GetWarningsForIP(path.Child("clusterIPs").Index(i), ip)...)
		}
	}
	if none {
		if spec.LoadBalancerIP != "" {
			w = append(w, "spec.loadBalancerIP is ignored for headless services")
		}
		if len(spec.ExternalIPs) > 0 {
			w = append(w, "spec.externalIPs is ignored for headless services")
		}
		if spec.SessionAffinity != corev1.ServiceAffinityNone {
			w = append(w, "spec.SessionAffinity is ignored for headless services")
		}
	}
	for i, ip := range spec.ExternalIPs {
		w = append(w, validation.GetWarningsForIP(path.Child("externalIPs").Index(i), ip)...)
	}
	if len(spec.ExternalIPs) > 0 && !none && spec.Type != corev1.ServiceTypeExternalName {
		w = append(w, "spec.externalIPs is deprecated and may no longer be implemented in some clusters")
	}
	if spec.LoadBalancerIP != "" {
		w = append(w, validation.GetWarningsForIP(path.Child("loadBalancerIP"), spec.LoadBalancerIP)...)
	}
	for i, cidr := range spec.LoadBalancerSourceRanges {
		w = append(w, validation.GetWarningsForCIDR(path.Child("loadBalancerSourceRanges").Index(i), cidr)...)
	}
	switch isName := spec.Type == corev1.ServiceTypeExternalName; {
	case isName && len(spec.ExternalIPs) > 0:
		w = append(w, fmt.Sprintf("spec.externalIPs is ignored when spec.type is %q", spec.Type))
	case !isName && spec.ExternalName != "":
		w = append(w, fmt.Sprintf("spec.externalName is ignored when spec.type is not %q", corev1.ServiceTypeExternalName))
	}
	if deref(spec.TrafficDistribution) == corev1.ServiceTrafficDistributionPreferClose {
		w = append(w, fmt.Sprintf("spec.trafficDistribution: %q is deprecated; use %q", corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone))
	}
	return w
}

func serviceColumns() []resource.Column[corev1.Service] {
	doc := corev1.ServiceSpec{}.SwaggerDoc()
	return []resource.Column[corev1.Service]{
		{Name: "Type", Describe: doc["type"], Value: func(s *corev1.Service) any { return string(s.Spec.Type) }},
		{Name: "Cluster-IP", Describe: doc["clusterIP"], Value: showClusterIP},
		{Name: "External-IP", Describe: doc["externalIPs"], Value: showExternalIP},
		{Name: "Port(s)", Describe: doc["ports"], Value: showServicePorts},
		show.Age[corev1.Service](),
		{Name: "Selector", Wide: true, Describe: doc["selector"], Value: func(s *corev1.Service) any { return labels.FormatLabels(s.Spec.Selector) }},
	}
}

func showClusterIP(s *corev1.Service) any {
	if len(s.Spec.ClusterIPs) == 0 {
		return show.None
	}
	return s.Spec.ClusterIPs[0]
}

// showExternalIP is the outside address of the Service's type: a name, addresses, or the balancer's.
func showExternalIP(s *corev1.Service) any {
	external := strings.Join(s.Spec.ExternalIPs, ",")
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var balancers []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			if address := show.Or(in.IP, in.Hostname); address != "" && !slices.Contains(balancers, address) {
				balancers = append(balancers, address)
			}
		}
		slices.Sort(balancers)
		all := strings.Join(balancers, ",")
		switch {
		case external != "" && all != "":
			return all + "," + external
		case external != "":
			return external
		}
		return show.Or(all, "<pending>")
	}
	return show.Or(external, show.None)
}

func showServicePorts(s *corev1.Service) any {
	ports := make([]string, len(s.Spec.Ports))
	for i, p := range s.Spec.Ports {
		ports[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.NodePort > 0 {
			ports[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
	}
	return show.Or(strings.Join(ports, ","), show.None)
}
