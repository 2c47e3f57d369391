package core

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// DefaultPodTemplate fills what a pod template leaves out. A template gets less than a Pod: what only matters for one
// running pod stays open.
func DefaultPodTemplate(t *corev1.PodTemplateSpec) {
	dropInitAnnotations(t.Annotations)
	defaultPodSpec(&t.Spec)
}

// defaultPod fills what a Pod leaves out.
func defaultPod(p *corev1.Pod) {
	dropInitAnnotations(p.Annotations)
	defaultPodSpec(&p.Spec)
	s := &p.Spec
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		one := int64(1)
		s.TerminationGracePeriodSeconds = &one
	}
	for _, cs := range [][]corev1.Container{s.Containers, s.InitContainers} {
		for i := range cs {
			limitsToRequests(&cs[i].Resources)
			if s.HostNetwork {
				hostPorts(cs[i].Ports)
			}
		}
	}
	defaultPodResources(s)
	if s.EnableServiceLinks == nil {
		links := corev1.DefaultEnableServiceLinks
		s.EnableServiceLinks = &links
	}
	defaultPodStatus(&p.Status)
}

// dropInitAnnotations removes annotations that once stood for init containers, before they were a field.
func dropInitAnnotations(annotations map[string]string) {
	maps.DeleteFunc(annotations, func(key, _ string) bool {
		switch key {
		case "pod.beta.kubernetes.io/init-containers", "pod.alpha.kubernetes.io/init-containers",
			"pod.beta.kubernetes.io/init-container-statuses", "pod.alpha.kubernetes.io/init-container-statuses":
			return true
		}
		return false
	})
}

// defaultPodStatus keeps the pairs podIP and podIPs together. Where both are given and differ, the singular
// one wins: an older node sent it.
func defaultPodStatus(s *corev1.PodStatus) {
	switch {
	case s.PodIP == "" && len(s.PodIPs) > 0:
		s.PodIP = s.PodIPs[0].IP
	case s.PodIP != "" && (len(s.PodIPs) == 0 || s.PodIPs[0].IP != s.PodIP):
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			roundToMilli(list[i].AllocatedResources)
			if r := list[i].Resources; r != nil {
				roundToMilli(r.Limits)
				roundToMilli(r.Requests)
			}
		}
	}
}

func defaultPodSpec(s *corev1.PodSpec) {
	if s.DNSPolicy == "" {
		s.DNSPolicy = corev1.DNSClusterFirst
	}
	if s.RestartPolicy == "" {
		s.RestartPolicy = corev1.RestartPolicyAlways
	}
	if s.SecurityContext == nil {
		s.SecurityContext = &corev1.PodSecurityContext{}
	}
	if s.TerminationGracePeriodSeconds == nil {
		seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
		s.TerminationGracePeriodSeconds = &seconds
	}
	if s.SchedulerName == "" {
		s.SchedulerName = corev1.DefaultSchedulerName
	}
	// serviceAccount is the old name of serviceAccountName: both say the same.
	if s.ServiceAccountName == "" {
		s.ServiceAccountName = s.DeprecatedServiceAccount
	}
	s.DeprecatedServiceAccount = s.ServiceAccountName
	for i := range s.Volumes {
		defaultVolume(&s.Volumes[i].VolumeSource)
	}
	for i := range s.InitContainers {
		defaultContainer(&s.InitContainers[i])
	}
	for i := range s.Containers {
		defaultContainer(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		defaultContainer((*corev1.Container)(&s.EphemeralContainers[i].EphemeralContainerCommon))
	}
	roundToMilli(s.Overhead)
	if s.Resources != nil {
		roundToMilli(s.Resources.Limits)
		roundToMilli(s.Resources.Requests)
	}
}

func hostPorts(ports []corev1.ContainerPort) {
	for i := range ports {
		if ports[i].HostPort == 0 {
			ports[i].HostPort = ports[i].ContainerPort
		}
	}
}

func defaultContainer(c *corev1.Container) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = pullPolicy(c.Image)
	}
	if c.TerminationMessagePath == "" {
		c.TerminationMessagePath = corev1.TerminationMessagePathDefault
	}
	if c.TerminationMessagePolicy == "" {
		c.TerminationMessagePolicy = corev1.TerminationMessageReadFile
	}
	for i := range c.Ports {
		if c.Ports[i].Protocol == "" {
			c.Ports[i].Protocol = corev1.ProtocolTCP
		}
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil {
			defaultFieldRef(from.FieldRef)
			if from.FileKeyRef != nil && from.FileKeyRef.Optional == nil {
				from.FileKeyRef.Optional = new(bool)
			}
		}
	}
	roundToMilli(c.Resources.Limits)
	roundToMilli(c.Resources.Requests)
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if probe != nil {
			defaultProbe(probe)
		}
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTPGet(h.HTTPGet)
			}
		}
	}
}

// pullPolicy is Always for images that may change under their name: with the tag latest, or neither tag nor digest.
func pullPolicy(image string) corev1.PullPolicy {
	if image == "" { // left open by a template, or an error that validation names
		return corev1.PullIfNotPresent
	}
	name, digest, _ := strings.Cut(image, "@")
	tag := ""
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		tag = name[colon+1:]
	}
	if tag == "latest" || tag == "" && digest == "" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func defaultProbe(p *corev1.Probe) {
	for field, value := range map[*int32]int32{
		&p.TimeoutSeconds: 1, &p.PeriodSeconds: 10, &p.SuccessThreshold: 1, &p.FailureThreshold: 3,
	} {
		if *field == 0 {
			*field = value
		}
	}
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil && p.GRPC.Service == nil {
		p.GRPC.Service = new(string)
	}
}

func defaultHTTPGet(h *corev1.HTTPGetAction) {
	if h == nil {
		return
	}
	if h.Path == "" {
		h.Path = "/"
	}
	if h.Scheme == "" {
		h.Scheme = corev1.URISchemeHTTP
	}
}

func defaultFieldRef(f *corev1.ObjectFieldSelector) {
	if f != nil && f.APIVersion == "" {
		f.APIVersion = "v1"
	}
}

// limitsToRequests makes a container ask for what it is limited to, where it does not say how much it asks for.
func limitsToRequests(r *corev1.ResourceRequirements) {
	if r.Limits == nil {
		return
	}
	if r.Requests == nil {
		r.Requests = corev1.ResourceList{}
	}
	for name, limit := range r.Limits {
		if _, asked := r.Requests[name]; !asked {
			r.Requests[name] = limit.DeepCopy()
		}
	}
}

// defaultPodResources fills the pod's own requests, if it has limits, from those of its containers and then from its
// limits; and its limits of huge pages from its containers'.
func defaultPodResources(s *corev1.PodSpec) {
	r := s.Resources
	if r == nil || len(r.Limits) == 0 && len(r.Requests) == 0 {
		return
	}
	for name, limit := range aggregate(s, func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Limits }) {
		if _, asked := r.Requests[name]; asked || !hugePages(name) {
			continue
		}
		setIfAbsent(&r.Limits, name, limit)
	}
	if len(r.Limits) == 0 {
		return
	}
	for name, request := range aggregate(s, func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Requests }) {
		if name == corev1.ResourceCPU || name == corev1.ResourceMemory {
			setIfAbsent(&r.Requests, name, request)
		}
	}
	for name, limit := range r.Limits {
		if name == corev1.ResourceCPU || name == corev1.ResourceMemory || hugePages(name) {
			setIfAbsent(&r.Requests, name, limit)
		}
	}
}

func setIfAbsent(list *corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
	if *list == nil {
		*list = corev1.ResourceList{}
	}
	if _, ok := (*list)[name]; !ok {
		(*list)[name] = q.DeepCopy()
	}
}

// aggregate is what a pod's containers need together at its most demanding moment: all containers and the restartable
// init containers, or one plain init container with the restartable ones before it.
func aggregate(s *corev1.PodSpec, of func(*corev1.ResourceRequirements) corev1.ResourceList) corev1.ResourceList {
	total, sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range s.Containers {
		addTo(total, of(&s.Containers[i].Resources))
	}
	for i := range s.InitContainers {
		c := &s.InitContainers[i]
		if restartable(c) {
			addTo(total, of(&c.Resources))
			addTo(sidecars, of(&c.Resources))
			maxTo(peak, sidecars)
			continue
		}
		need := maps.Clone(sidecars)
		addTo(need, of(&c.Resources))
		maxTo(peak, need)
	}
	maxTo(total, peak)
	return total
}

func addTo(sum, more corev1.ResourceList) {
	for name, q := range more {
		have := sum[name]
		have.Add(q)
		sum[name] = have
	}
}

func maxTo(most, other corev1.ResourceList) {
	for name, q := range other {
		if have, ok := most[name]; !ok || q.Cmp(have) > 0 {
			most[name] = q.DeepCopy()
		}
	}
}

// restartable says that an init container keeps running beside the others: a sidecar.
func restartable(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
