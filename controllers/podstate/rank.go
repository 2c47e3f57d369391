package podstate

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FirstToGo returns n of the pods: those whose loss costs least, in upstream's order. related are all pods of the same
// owner's ReplicaSets, which tell how many ready siblings a pod has on its node. The order is: unassigned; Pending
// before Unknown before Running; not ready; lower deletion cost (controller.kubernetes.io/pod-deletion-cost); more
// ready siblings on the node; ready for a shorter time; more restarts; younger. Times are compared by their binary
// order of magnitude, ties by UID, so that the choice among pods of a like age is spread.
func FirstToGo(pods, related []*corev1.Pod, n int, now time.Time) []*corev1.Pod {
	if n >= len(pods) {
		return pods
	}
	siblings := map[string]int{}
	for _, pod := range related {
		if Active(pod) && Ready(pod) && pod.Spec.NodeName != "" {
			siblings[pod.Spec.NodeName]++
		}
	}
	sorted := slices.Clone(pods)
	slices.SortStableFunc(sorted, func(a, b *corev1.Pod) int { return compare(a, b, siblings, now) })
	return sorted[:n]
}

// compare is negative when a goes before b.
func compare(a, b *corev1.Pod, siblings map[string]int, now time.Time) int {
	if (a.Spec.NodeName == "") != (b.Spec.NodeName == "") {
		return falseFirst(a.Spec.NodeName != "", b.Spec.NodeName != "")
	}
	if c := cmp.Compare(phaseOrder(a), phaseOrder(b)); c != 0 {
		return c
	}
	readyA, readyB := Ready(a), Ready(b)
	if readyA != readyB {
		return falseFirst(readyA, readyB)
	}
	if c := cmp.Compare(deletionCost(a), deletionCost(b)); c != 0 {
		return c
	}
	if c := cmp.Compare(siblings[b.Spec.NodeName], siblings[a.Spec.NodeName]); c != 0 {
		return c
	}
	if readyA && readyB {
		timeA, timeB := readySince(a), readySince(b)
		if !timeA.Equal(timeB) {
			return compareAge(a, b, *timeA, *timeB, now)
		}
	}
	if c := compareRestarts(a, b); c != 0 {
		return c
	}
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return compareAge(a, b, a.CreationTimestamp, b.CreationTimestamp, now)
	}
	return 0
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

func phaseOrder(pod *corev1.Pod) int {
	switch pod.Status.Phase {
	case corev1.PodPending:
		return 0
	case corev1.PodUnknown:
		return 1
	case corev1.PodRunning:
		return 2
	default:
		return 0
	}
}

func deletionCost(pod *corev1.Pod) int64 {
	cost, err := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0 // absent, or refused by the API server long ago
	}
	return cost
}

func readySince(pod *corev1.Pod) *metav1.Time {
	if c := Condition(pod, corev1.PodReady); c != nil {
		return &c.LastTransitionTime
	}
	return &metav1.Time{}
}

// compareAge lets the younger one go first. An unset time counts as youngest.
func compareAge(a, b *corev1.Pod, timeA, timeB metav1.Time, now time.Time) int {
	if timeA.IsZero() || timeB.IsZero() {
		return falseFirst(!timeA.IsZero(), !timeB.IsZero())
	}
	if c := cmp.Compare(magnitude(now.Sub(timeA.Time)), magnitude(now.Sub(timeB.Time))); c != 0 {
		return c
	}
	return cmp.Compare(a.UID, b.UID)
}

// magnitude is the binary order of magnitude of an age, -1 for none.
func magnitude(age time.Duration) int {
	if age <= 0 {
		return -1
	}
	return int(math.Log2(float64(age)))
}

// compareRestarts lets the pod whose worst container restarted more often go first; sidecars break a tie of the
// ordinary containers.
func compareRestarts(a, b *corev1.Pod) int {
	regularA, sidecarA := maxRestarts(a)
	regularB, sidecarB := maxRestarts(b)
	if c := cmp.Compare(regularB, regularA); c != 0 {
		return c
	}
	return cmp.Compare(sidecarB, sidecarA)
}

func maxRestarts(pod *corev1.Pod) (regular, sidecar int32) {
	for _, s := range pod.Status.ContainerStatuses {
		regular = max(regular, s.RestartCount)
	}
	sidecars := map[string]bool{}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars[c.Name] = true
		}
	}
	for _, s := range pod.Status.InitContainerStatuses {
		if sidecars[s.Name] {
			sidecar = max(sidecar, s.RestartCount)
		}
	}
	return regular, sidecar
}
