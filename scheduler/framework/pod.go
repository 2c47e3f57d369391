package framework

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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

// Pod is a pod as scheduling sees it. It never changes after NewPod.
type Pod struct {
	*corev1.Pod
	Requests Vector // what must fit; one of Pods included
	Weight   Vector // the same for ranking: CPU and memory as if every container named some
	Ports    []HostPort
	Affinity nodeaffinity.RequiredNodeAffinity // with the nodeSelector
	// Preferred is nil when the pod has no preferences or they cannot be read; BadPreference says why.
	Preferred     *nodeaffinity.PreferredSchedulingTerms
	BadPreference error
	Priority      int32

	// Signature is the same for pods that scheduling cannot tell apart.
	Signature Signature
}

// Signature stands for everything that plugins read of a pod.
type Signature [sha256.Size]byte

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
		Requests: columns.Vector(podresources.PodRequests(pod, podresources.PodResourcesOptions{})),
		Weight: columns.Vector(podresources.PodRequests(pod, podresources.PodResourcesOptions{
			NonMissingContainerRequests: corev1.ResourceList{corev1.ResourceCPU: unnamedCPU, corev1.ResourceMemory: unnamedMemory},
		})),
		Ports:    hostPorts(pod),
		Affinity: nodeaffinity.GetRequiredNodeAffinity(pod),
		Priority: schedulinghelpers.PodPriority(pod),
	}
	p.Requests[Pods] = 1
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		p.Preferred, p.BadPreference = nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	p.Signature = signatureOf(p)
	return p
}

func hostPorts(pod *corev1.Pod) (ports []HostPort) {
	take := func(containers []corev1.Container) {
		for _, c := range containers {
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
	}
	take(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			take([]corev1.Container{c})
		}
	}
	return ports
}

// signatureOf covers every field that a plugin reads. A plugin that reads more must add it here.
func signatureOf(p *Pod) Signature {
	data, err := json.Marshal(struct {
		Requests, Weight Vector
		Ports            []HostPort
		NodeName         string
		NodeSelector     map[string]string
		Affinity         *corev1.Affinity
		Tolerations      []corev1.Toleration
		Spread           []corev1.TopologySpreadConstraint
		Volumes          []string
		Claims           int
	}{
		p.Requests, p.Weight, p.Ports, p.Spec.NodeName, p.Spec.NodeSelector, p.Spec.Affinity, p.Spec.Tolerations,
		p.Spec.TopologySpreadConstraints, claims(p.Pod), len(p.Spec.ResourceClaims),
	})
	if err != nil { // these types always encode
		panic(fmt.Sprintf("sign pod %s/%s: %v", p.Namespace, p.Name, err))
	}
	return sha256.Sum256(data)
}

func claims(pod *corev1.Pod) (names []string) {
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			names = append(names, v.Name)
		}
	}
	return names
}

// Queued is a pod that waits for a node.
type Queued struct {
	*Pod
	Since    time.Time // when it was first seen
	Queued   time.Time // when it last became ready to be tried
	Attempts int
	Rejected []string // names of the plugins that said no the last time
}
