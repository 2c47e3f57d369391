package evict

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// criticalPriority is where the pods begin that a cluster cannot do without.
const criticalPriority = 2_000_000_000

// Candidate is a pod that might go, with what it uses.
type Candidate struct {
	Pod       *corev1.Pod
	Memory    int64 // bytes of its working set
	Disk      int64 // bytes of logs, writable layers and emptyDirs
	Inodes    int64
	Processes int64
}

// Critical says whether a pod must not be ended by its node.
func Critical(p *corev1.Pod) bool {
	return p.Spec.Priority != nil && *p.Spec.Priority >= criticalPriority || p.Annotations["kubernetes.io/config.source"] == "file" ||
		p.Annotations["kubernetes.io/config.mirror"] != ""
}

// Rank lists the pods that may go, the first to go first: those that use more than they asked for, then by priority,
// then by how much more.
func Rank(s Signal, pods []Candidate) []Candidate {
	out := slices.DeleteFunc(slices.Clone(pods), func(c Candidate) bool { return Critical(c.Pod) })
	slices.SortStableFunc(out, func(a, b Candidate) int {
		x, y := excess(s, a), excess(s, b)
		return cmp.Or(compareBool(y > 0, x > 0), cmp.Compare(priority(a.Pod), priority(b.Pod)), cmp.Compare(y, x))
	})
	return out
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// excess is how much more a pod uses of a resource than it asked for. Nobody asks for inodes and process ids.
func excess(s Signal, c Candidate) int64 {
	requests := resource.PodRequests(c.Pod, resource.PodResourcesOptions{})
	switch s {
	case Memory:
		return c.Memory - requests.Memory().Value()
	case NodeFS, ImageFS:
		return c.Disk - requests.StorageEphemeral().Value()
	case NodeInodes, ImageInodes:
		return c.Inodes
	default:
		return c.Processes
	}
}

// Message tells the pod's owner why it went.
func Message(t Threshold, l Level, c Candidate) string {
	name := map[Signal]string{
		Memory: "memory", NodeFS: "ephemeral-storage", ImageFS: "ephemeral-storage", NodeInodes: "inodes", ImageInodes: "inodes", PIDs: "pids",
	}[t.Signal]
	out := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %d, available: %d. ", name, t.Value(l.Capacity), l.Available)
	requests := resource.PodRequests(c.Pod, resource.PodResourcesOptions{})
	switch t.Signal {
	case Memory:
		out += fmt.Sprintf("The pod was using %d, request is %d. ", c.Memory, requests.Memory().Value())
	case NodeFS, ImageFS:
		out += fmt.Sprintf("The pod was using %d, request is %d. ", c.Disk, requests.StorageEphemeral().Value())
	}
	return out
}
