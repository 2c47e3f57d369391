package core

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

// podCheck is the validation of one pod spec: what its many parts need to know of each other.
type podCheck struct {
	spec    *corev1.PodSpec
	meta    *metav1.ObjectMeta
	isPod   bool // not only a template
	volumes map[string]*corev1.VolumeSource
}

func newPodCheck(meta *metav1.ObjectMeta, spec *corev1.PodSpec, isPod bool) *podCheck {
	return &podCheck{spec: spec, meta: meta, isPod: isPod, volumes: map[string]*corev1.VolumeSource{}}
}

// ValidatePodTemplate returns what is wrong with a template that lies at path. Its defaults must be filled in.
func ValidatePodTemplate(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	c := newPodCheck(&t.ObjectMeta, &t.Spec, false)
	errs := check.Labels(t.Labels, path.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, path.Child("annotations"))...)
	errs = append(errs, c.annotations(path.Child("annotations"))...)
	errs = append(errs, c.all(path.Child("spec"))...)
	errs = append(errs, c.profilesMatch(path.Child("spec"))...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

func validatePod(p *corev1.Pod) field.ErrorList {
	c := newPodCheck(&p.ObjectMeta, &p.Spec, true)
	path := field.NewPath("spec")
	errs := c.annotations(field.NewPath("metadata", "annotations"))
	errs = append(errs, c.all(path)...)
	if p.Spec.ServiceAccountName == "" {
		for i, v := range p.Spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for j, source := range v.Projected.Sources {
				if source.ServiceAccountToken != nil {
					errs = append(errs, field.Forbidden(path.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"),
						"must not be specified when serviceAccountName is not set"))
				}
			}
		}
	}
	eachContainer(&p.Spec, path, func(ct *corev1.Container, at *field.Path) {
		if ct.Image != strings.TrimSpace(ct.Image) {
			errs = append(errs, field.Invalid(at.Child("image"), ct.Image, "must not have leading or trailing whitespace"))
		}
	})
	return errs
}

func validatePodCreate(p *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := newPodCheck(&p.ObjectMeta, &p.Spec, true).profilesMatch(path)
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

// eachContainer visits init containers, containers and ephemeral containers; what they share looks like a Container.
func eachContainer(s *corev1.PodSpec, path *field.Path, visit func(*corev1.Container, *field.Path)) {
	for i := range s.InitContainers {
		visit(&s.InitContainers[i], path.Child("initContainers").Index(i))
	}
	for i := range s.Containers {
		visit(&s.Containers[i], path.Child("containers").Index(i))
	}
	for i := range s.EphemeralContainers {
		visit((*corev1.Container)(&s.EphemeralContainers[i].EphemeralContainerCommon), path.Child("ephemeralContainers").Index(i))
	}
}

// annotations checks the annotations that mean something to pods.
func (c *podCheck) annotations(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if mirror, ok := c.meta.Annotations[corev1.MirrorPodAnnotationKey]; ok && c.spec.NodeName == "" {
		errs = append(errs, field.Invalid(path.Key(corev1.MirrorPodAnnotationKey), mirror, "must set spec.nodeName if mirror pod annotation is set"))
	}
	if cost, ok := c.meta.Annotations[corev1.PodDeletionCost]; ok {
		if _, err := strconv.ParseInt(cost, 10, 32); err != nil || strings.HasPrefix(cost, "+") || len(cost) > 1 && cost[0] == '0' {
			errs = append(errs, field.Invalid(path.Key(corev1.PodDeletionCost), cost, "must be a 32bit integer"))
		}
	}
	return append(errs, c.profileAnnotations(path)...)
}

// all checks a whole spec.
func (c *podCheck) all(path *field.Path) field.ErrorList {
	s := c.spec
	errs := c.allVolumes(path.Child("volumes"))
	errs = append(errs, c.unsupported(path)...)
	errs = append(errs, c.allContainers(path)...)
	errs = append(errs, c.resources(path.Child("resources"))...)
	errs = append(errs, c.hostNetworkPorts(path.Child("containers"))...)
	errs = append(errs, check.OneOf(s.RestartPolicy, path.Child("restartPolicy"),
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, c.security(path)...)
	errs = append(errs, c.dns(path)...)
	errs = append(errs, c.names(path)...)
	errs = append(errs, c.scheduling(path)...)
	errs = append(errs, c.hostUsers(path)...)
	for i, gate := range s.ReadinessGates {
		errs = append(errs, check.QualifiedName(string(gate.ConditionType), path.Child("readinessGates").Index(i).Child("conditionType"))...)
	}
	if s.TerminationGracePeriodSeconds == nil {
		errs = append(errs, field.Required(path.Child("terminationGracePeriodSeconds"), ""))
	}
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > math.MaxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *d, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if s.Overhead != nil {
		errs = append(errs, validateResources(&corev1.ResourceRequirements{Limits: s.Overhead}, validateContainerResource, path.Child("overhead"))...)
	}
	return errs
}

// unsupported names what this cluster has nobody to act on. Differs from upstream, which takes these fields along.
func (c *podCheck) unsupported(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, c.claims(path.Child("resourceClaims"))...)
	if c.spec.SchedulingGroup != nil {
		errs = append(errs, field.Forbidden(path.Child("schedulingGroup"), "pod groups are not supported"))
	}
	if os := c.spec.OS; os != nil {
		if os.Name == corev1.Windows {
			errs = append(errs, field.Forbidden(path.Child("os", "name"), "Windows pods are not supported"))
		} else {
			errs = append(errs, check.OneOf(os.Name, path.Child("os", "name"), corev1.Linux)...)
		}
	}
	windows := func(o *corev1.WindowsSecurityContextOptions, at *field.Path) {
		if o != nil {
			errs = append(errs, field.Forbidden(at.Child("securityContext", "windowsOptions"), "Windows pods are not supported"))
		}
	}
	if sc := c.spec.SecurityContext; sc != nil {
		windows(sc.WindowsOptions, path)
	}
	eachContainer(c.spec, path, func(ct *corev1.Container, at *field.Path) {
		if ct.SecurityContext != nil {
			windows(ct.SecurityContext.WindowsOptions, at)
		}
		for i, claim := range ct.Resources.Claims {
			if !slices.ContainsFunc(c.spec.ResourceClaims, func(p corev1.PodResourceClaim) bool { return p.Name == claim.Name }) {
				errs = append(errs, field.NotFound(at.Child("resources", "claims").Index(i), claim.Name))
			}
		}
	})
	return errs
}

// claims checks the claims to devices that a pod refers to.
func (c *podCheck) claims(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, claim := range c.spec.ResourceClaims {
		at := path.Index(i)
		switch {
		case claim.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case seen[claim.Name]:
			errs = append(errs, field.Duplicate(at.Child("name"), claim.Name))
		default:
			errs = append(errs, check.DNSLabel(claim.Name, at.Child("name"))...)
		}
		seen[claim.Name] = true
		switch by, from := claim.ResourceClaimName, claim.ResourceClaimTemplateName; {
		case by != nil && from != nil:
			errs = append(errs, field.Invalid(at, claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		case by != nil:
			errs = append(errs, check.Subdomain(*by, at.Child("resourceClaimName"))...)
		case from != nil:
			errs = append(errs, check.Subdomain(*from, at.Child("resourceClaimTemplateName"))...)
		default:
			errs = append(errs, field.Invalid(at, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
	}
	return errs
}

// hostNetworkPorts wants containers in the host's network to have the ports of the host, or, in a template, none yet.
func (c *podCheck) hostNetworkPorts(path *field.Path) field.ErrorList {
	if !c.spec.HostNetwork {
		return nil
	}
	var errs field.ErrorList
	for i, ct := range c.spec.Containers {
		for j, p := range ct.Ports {
			if (c.isPod || p.HostPort != 0) && p.HostPort != p.ContainerPort {
				errs = append(errs, field.Invalid(path.Index(i).Child("ports").Index(j).Child("hostPort"), p.HostPort,
					"must match `containerPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}

// resources checks what the pod asks for as a whole, and that its containers stay within.
func (c *podCheck) resources(path *field.Path) field.ErrorList {
	r := c.spec.Resources
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if r.Claims != nil {
		errs = append(errs, field.Forbidden(path.Child("claims"), "claims may not be set for Resources at pod-level"))
	}
	errs = append(errs, validateResources(r, validatePodResource, path)...)
	for name, sum := range aggregate(c.spec, func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Requests }) {
		if own, ok := r.Requests[name]; ok && sum.Cmp(own) > 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), own.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", sum.String())))
		}
	}
	for name, sum := range aggregate(c.spec, func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Limits }) {
		if own, ok := r.Limits[name]; ok && hugePages(name) && sum.Cmp(own) > 0 {
			errs = append(errs, field.Invalid(path.Child("limits").Key(string(name)), own.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container limits of %s", sum.String())))
		}
	}
	for i, ct := range c.spec.Containers {
		for name, limit := range ct.Resources.Limits {
			if own, ok := r.Limits[name]; ok && limit.Cmp(own) > 0 {
				errs = append(errs, field.Invalid(path.Child("containers").Index(i).Key(string(name)).Child("limits"), limit.String(),
					fmt.Sprintf("must be less than or equal to pod limits of %s", own.String())))
			}
		}
	}
	return errs
}

// The bounds of a resolv.conf, which come from the C library.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchBytes = 2048
)

func (c *podCheck) dns(path *field.Path) field.ErrorList {
	s := c.spec
	errs := check.OneOf(s.DNSPolicy, path.Child("dnsPolicy"), corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	at, d := path.Child("dnsConfig"), s.DNSConfig
	if s.DNSPolicy == corev1.DNSNone && d == nil {
		return append(errs, field.Required(at, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone)))
	}
	if d == nil {
		return errs
	}
	if s.DNSPolicy == corev1.DNSNone && len(d.Nameservers) == 0 {
		return append(errs, field.Required(at.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone)))
	}
	if len(d.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(at.Child("nameservers"), d.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers)))
	}
	for i, ns := range d.Nameservers {
		errs = append(errs, check.IP(ns, at.Child("nameservers").Index(i))...)
	}
	searches := at.Child("searches")
	if len(d.Searches) > maxSearches {
		errs = append(errs, field.Invalid(searches, d.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches)))
	}
	if len(strings.Join(d.Searches, " ")) > maxSearchBytes {
		errs = append(errs, field.Invalid(searches, d.Searches, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchBytes)))
	}
	for i, search := range d.Searches {
		if search != "." {
			name := strings.TrimSuffix(search, ".")
			errs = append(errs, check.Each(searches.Index(i), name, validation.IsDNS1123SubdomainWithUnderscore(name))...)
		}
	}
	for i, option := range d.Options {
		if option.Name == "" {
			errs = append(errs, field.Required(at.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

// maxHostname is the longest name that Linux lets a host have.
const maxHostname = 64

// names checks what names other objects or becomes a name.
func (c *podCheck) names(path *field.Path) field.ErrorList {
	s := c.spec
	var errs field.ErrorList
	for _, f := range []struct {
		name, value string
		valid       func(string) []string
	}{
		{"serviceAccountName", s.ServiceAccountName, validation.IsDNS1123Subdomain},
		{"nodeName", s.NodeName, validation.IsDNS1123Subdomain},
		{"priorityClassName", s.PriorityClassName, validation.IsDNS1123Subdomain},
		{"hostname", s.Hostname, validation.IsDNS1123Label},
		{"subdomain", s.Subdomain, validation.IsDNS1123Label},
	} {
		if f.value != "" {
			errs = append(errs, check.Each(path.Child(f.name), f.value, f.valid(f.value))...)
		}
	}
	if s.RuntimeClassName != nil {
		errs = append(errs, check.Subdomain(*s.RuntimeClassName, path.Child("runtimeClassName"))...)
	}
	for i, alias := range s.HostAliases {
		at := path.Child("hostAliases").Index(i)
		errs = append(errs, check.IP(alias.IP, at.Child("ip"))...)
		for j, name := range alias.Hostnames {
			errs = append(errs, check.Subdomain(name, at.Child("hostnames").Index(j))...)
		}
	}
	if s.HostnameOverride == nil {
		return errs
	}
	at := path.Child("hostnameOverride")
	if deref(s.SetHostnameAsFQDN) {
		errs = append(errs, field.Forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
	}
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(at, "may not be specified when hostNetwork is true"))
	}
	if len(*s.HostnameOverride) > maxHostname {
		errs = append(errs, field.TooLong(at, "", maxHostname))
	}
	return append(errs, check.Subdomain(*s.HostnameOverride, at)...)
}
