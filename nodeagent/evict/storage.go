package evict

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// Storage is what a pod has written to the node's disk, in bytes.
type Storage struct {
	EmptyDirs  map[string]int64 // by volume name
	Containers map[string]int64 // writable layer and logs, by container name
}

// Limited says whether a pod has limits on what it writes, so that it is worth measuring.
func Limited(p *corev1.Pod) bool {
	for i := range p.Spec.Volumes {
		if e := p.Spec.Volumes[i].EmptyDir; e != nil && e.Medium == corev1.StorageMediumDefault && e.SizeLimit != nil && !e.SizeLimit.IsZero() {
			return true
		}
	}
	limits := resource.PodLimits(p, resource.PodResourcesOptions{})
	return !limits.StorageEphemeral().IsZero()
}

// OverLimit says which limit a pod exceeds, "" if none.
func OverLimit(p *corev1.Pod, s Storage) string {
	var sum int64
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		used := s.EmptyDirs[v.Name]
		sum += used
		if e := v.EmptyDir; e != nil && e.SizeLimit != nil && !e.SizeLimit.IsZero() && used > e.SizeLimit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, e.SizeLimit)
		}
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		used := s.Containers[c.Name]
		sum += used
		if l := c.Resources.Limits.StorageEphemeral(); !l.IsZero() && used > l.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, l)
		}
	}
	limits := resource.PodLimits(p, resource.PodResourcesOptions{})
	if l := limits.StorageEphemeral(); !l.IsZero() && everyContainerLimited(p) && sum > l.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", l)
	}
	return ""
}

func everyContainerLimited(p *corev1.Pod) bool {
	for i := range p.Spec.Containers {
		if p.Spec.Containers[i].Resources.Limits.StorageEphemeral().IsZero() {
			return false
		}
	}
	return true
}
