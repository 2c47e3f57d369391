package framework

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/version"
	ndf "k8s.io/component-helpers/nodedeclaredfeatures"
	ndftypes "k8s.io/component-helpers/nodedeclaredfeatures/types"
	podresources "k8s.io/component-helpers/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// What a container that names no request counts as when nodes are ranked, so that such pods spread too. Upstream's
// values.
var (
	unnamedCPU    = *resource.NewMilliQuantity(100, resource.DecimalSI)
	unnamedMemory = *resource.NewQuantity(200<<20, resource.BinarySI)
)

// contract is the version of Kubernetes whose features are asked of nodes.
var contract = version.MustParseSemantic("v1.36.0")

// Pod is a pod as scheduling sees it. It never changes after NewPod.
type Pod struct {
	*corev1.Pod
	Requests Vector // what must fit; one of Pods included
	Weight   Vector // the same for ranking: CPU and memory as if every container named some
	Asks     Vector // Weight, for the pod that is being placed: with pod-level resources they may differ
	Ports    []HostPort
	Affinity nodeaffinity.RequiredNodeAffinity // with the nodeSelector
	// Preferred is nil when the pod has no preferences or they cannot be read; BadPreference says why.
	Preferred     *nodeaffinity.PreferredSchedulingTerms
	BadPreference error
	Priority      int32
	Terms         *Terms         // nil when there are none
	Leaving       bool           // it is being deleted
	Features      ndf.FeatureSet // that its node must declare

	signed *signed
}

// HostPort is a port that a pod takes on its node. Address 0.0.0.0 is every address.
type HostPort struct {
	Protocol corev1.Protocol
	Address  string
	Port     int32
}

// Clashes says whether two pods cannot have these ports on one node.
func (p HostPort) Clashes(q HostPort) bool {
	const all = "0.0.0.0"
	return p.Port == q.Port && p.Protocol == q.Protocol && (p.Address == q.Address || p.Address == all || q.Address == all)
}

// NewPod works out what scheduling needs of a pod.
func NewPod(pod *corev1.Pod, columns *Columns) *Pod {
	p := &Pod{
		Pod:      pod,
		Ports:    hostPorts(pod),
		Affinity: nodeaffinity.GetRequiredNodeAffinity(pod),
		Priority: schedulinghelpers.PodPriority(pod),
		Terms:    termsOf(pod, &columns.Keys),
		Leaving:  pod.DeletionTimestamp != nil,
	}
	p.Features, _ = ndf.DefaultFramework.InferForPodScheduling(&ndftypes.PodInfo{Spec: &pod.Spec}, contract) // fails only without a version
	p.measure(columns)
	spreadKeys(pod, &columns.Keys)
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
		p.Preferred, p.BadPreference = nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return p
}

// measure adds up what the pod requests. A pod that is being resized counts with the greater of what it has and what it
// wants.
func (p *Pod) measure(columns *Columns) {
	options := podresources.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}
	requests := podresources.PodRequests(p.Pod, options)
	p.Requests = columns.Vector(requests)
	p.Requests[Pods] = 1
	weigh := func(unnamed corev1.ResourceList) Vector {
		options.NonMissingContainerRequests = unnamed
		return columns.Vector(podresources.PodRequests(p.Pod, options))
	}
	if namesAll(p.Pod) {
		p.Weight, p.Asks = p.Requests, p.Requests
		return
	}
	both := corev1.ResourceList{corev1.ResourceCPU: unnamedCPU, corev1.ResourceMemory: unnamedMemory}
	p.Asks = weigh(both)
	p.Weight = p.Asks
	if podresources.IsPodLevelRequestsSet(p.Pod) {
		unnamed := corev1.ResourceList{}
		for name, q := range both {
			if _, named := requests[name]; !named {
				unnamed[name] = q
			}
		}
		p.Weight = weigh(unnamed)
	}
}

// namesAll says that every container names CPU and memory, so that nothing has to be assumed.
func namesAll(pod *corev1.Pod) bool {
	if pod.Spec.Resources != nil {
		return false
	}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			requests := list[i].Resources.Requests
			if _, ok := requests[corev1.ResourceCPU]; !ok {
				return false
			}
			if _, ok := requests[corev1.ResourceMemory]; !ok {
				return false
			}
		}
	}
	return true
}

func hostPorts(pod *corev1.Pod) (ports []HostPort) {
	take := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.HostPort == 0 {
				continue
			}
			h := HostPort{Protocol: port.Protocol, Address: port.HostIP, Port: port.HostPort}
			if h.Address == "" {
				h.Address = "0.0.0.0"
			}
			if h.Protocol == "" {
				h.Protocol = corev1.ProtocolTCP
			}
			ports = append(ports, h)
		}
	}
	for i := range pod.Spec.Containers {
		take(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			take(c)
		}
	}
	return ports
}

// Personal says that a pod's volumes or devices are its own matter: what is found out about it holds for no other pod.
func (p *Pod) Personal() bool {
	if len(p.Spec.ResourceClaims) > 0 {
		return true
	}
	for i := range p.Spec.Volumes {
		if personal(&p.Spec.Volumes[i]) {
			return true
		}
	}
	return false
}

func personal(v *corev1.Volume) bool {
	return v.PersistentVolumeClaim != nil || v.Ephemeral != nil || v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil ||
		v.RBD != nil || v.ISCSI != nil || v.AzureDisk != nil || v.CSI != nil
}

// WithoutVolumes is the pod as it is when its volumes have nothing to say.
func (p *Pod) WithoutVolumes() *Pod {
	bare := *p.Pod
	bare.Spec.Volumes = nil
	out := *p
	out.Pod = &bare
	return &out
}

// Alike says that scheduling cannot tell two states of a pod on its node apart.
func Alike(a, b *corev1.Pod) bool {
	if a.Generation != b.Generation || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) ||
		!equality.Semantic.DeepEqual(a.Labels, b.Labels) || len(a.Status.ContainerStatuses) != len(b.Status.ContainerStatuses) ||
		!equality.Semantic.DeepEqual(a.Status.Resources, b.Status.Resources) {
		return false
	}
	for i := range a.Status.ContainerStatuses {
		x, y := &a.Status.ContainerStatuses[i], &b.Status.ContainerStatuses[i]
		if !equality.Semantic.DeepEqual(x.Resources, y.Resources) || !equality.Semantic.DeepEqual(x.AllocatedResources, y.AllocatedResources) {
			return false
		}
	}
	return true
}

// With is the same pod with a newer API object that is Alike.
func (p *Pod) With(pod *corev1.Pod) *Pod {
	c := *p
	c.Pod = pod
	return &c
}

// Queued is a pod that waits for a node.
type Queued struct {
	*Pod
	Since    time.Time // when it was first seen
	Queued   time.Time // when it last became ready to be tried
	Attempts int
	Rejected []string // names of the plugins that said no the last time
	Flushed  bool     // since then, nothing but time has woken it
}
