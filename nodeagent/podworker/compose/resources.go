package compose

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/runtime"
)

// Upstream's constants, so that the same pod weighs the same.
const (
	minShares     = 2
	maxShares     = 262144
	sharesPerCPU  = 1024
	minQuota      = 1000 // microseconds
	guaranteedAdj = -997
	bestEffortAdj = 1000
	nodeCritical  = 2000001000 // priority of system-node-critical
	milliPerCPU   = 1000
)

// CgroupParent is the path of the pod's cgroup: guaranteed pods at the root, the two other classes below a cgroup of
// their own.
func CgroupParent(pod *corev1.Pod, node Node) string {
	leaf := "pod" + string(pod.UID)
	switch fields.QOSClass(pod) {
	case corev1.PodQOSGuaranteed:
		return path.Join(node.CgroupRoot, leaf)
	case corev1.PodQOSBurstable:
		return path.Join(node.CgroupRoot, "burstable", leaf)
	default:
		return path.Join(node.CgroupRoot, "besteffort", leaf)
	}
}

// PodResources are the limits of the whole pod: shares of all requests; quota and memory only if every container is
// limited.
func PodResources(pod *corev1.Pod, node Node) runtime.Resources {
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	cpuLimited, memoryLimited := true, true
	limits := resource.PodLimits(pod, resource.PodResourcesOptions{
		ContainerFn: func(l corev1.ResourceList, _ resource.ContainerType) {
			cpuLimited = cpuLimited && !l.Cpu().IsZero()
			memoryLimited = memoryLimited && !l.Memory().IsZero()
		},
	})
	if r := pod.Spec.Resources; r != nil {
		cpuLimited = cpuLimited || !r.Limits.Cpu().IsZero()
		memoryLimited = memoryLimited || !r.Limits.Memory().IsZero()
	}
	out := runtime.Resources{CPUShares: Shares(requests.Cpu().MilliValue()), PidsLimit: node.PidsLimit}
	if cpuLimited {
		setQuota(&out, limits.Cpu().MilliValue(), node)
	}
	if memoryLimited {
		out.MemoryLimit = limits.Memory().Value()
	}
	return out
}

// ContainerResources are the limits of one container.
func ContainerResources(pod *corev1.Pod, c *corev1.Container, node Node) runtime.Resources {
	request, limit := c.Resources.Requests.Cpu().MilliValue(), c.Resources.Limits.Cpu().MilliValue()
	if request == 0 && limit != 0 {
		if _, ok := c.Resources.Requests[corev1.ResourceCPU]; !ok {
			request = limit
		}
	}
	out := runtime.Resources{
		CPUShares: Shares(request), MemoryLimit: c.Resources.Limits.Memory().Value(),
		OOMScoreAdj: oomScoreAdj(pod, c, node.MemoryCapacity),
	}
	setQuota(&out, limit, node)
	return out
}

func setQuota(r *runtime.Resources, milli int64, node Node) {
	if milli == 0 || !node.CPUQuota {
		return
	}
	r.CPUPeriod = node.CPUPeriod
	r.CPUQuota = max(milli*int64(node.CPUPeriod)/milliPerCPU, minQuota)
}

// Shares is the weight of so many thousandths of a CPU, in the scale of cgroup v1.
func Shares(milli int64) uint64 {
	return uint64(min(max(milli*sharesPerCPU/milliPerCPU, minShares), maxShares))
}

// oomScoreAdj says which containers the kernel kills first when the node runs out of memory: those of best-effort
// pods, then those that use more than they asked for, guaranteed ones last. The formula is upstream's.
func oomScoreAdj(pod *corev1.Pod, c *corev1.Container, capacity int64) int {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= nodeCritical {
		return guaranteedAdj
	}
	switch fields.QOSClass(pod) {
	case corev1.PodQOSGuaranteed:
		return guaranteedAdj
	case corev1.PodQOSBestEffort:
		return bestEffortAdj
	}
	if capacity <= 0 {
		return bestEffortAdj - 1
	}
	adj := 1000 - 1000*c.Resources.Requests.Memory().Value()/capacity
	if c.RestartPolicy != nil && isInit(pod, c) {
		smallest := int64(-1)
		for i := range pod.Spec.Containers {
			if m := pod.Spec.Containers[i].Resources.Requests.Memory().Value(); smallest < 0 || m < smallest {
				smallest = m
			}
		}
		adj = min(adj, 1000-1000*max(smallest, 0)/capacity)
	}
	return int(min(max(adj, 1000+guaranteedAdj), bestEffortAdj-1))
}

func isInit(pod *corev1.Pod, c *corev1.Container) bool {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == c.Name {
			return true
		}
	}
	return false
}
