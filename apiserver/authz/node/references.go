package node

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// References lists the kinds of objects in its namespace that a pod refers to, as plurals in order, mirror pods not
// excepted: admission refuses those that do.
func References(p *corev1.Pod) []string {
	bare := *p
	bare.Annotations = nil
	kinds := map[string]struct{}{}
	for r := range refsOf(&bare) {
		kinds[r.kind] = struct{}{}
	}
	return slices.Sorted(maps.Keys(kinds))
}
