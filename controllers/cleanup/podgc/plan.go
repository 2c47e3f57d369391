package podgc

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"hardway/controllers/podstate"
)

// unscheduledTerminating reports whether the pod is being deleted and was never bound: no node will ever finish the
// deletion.
func unscheduledTerminating(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && pod.Spec.NodeName == ""
}

// outOfService reports whether the pod is being deleted on a node that somebody declared shut down for good (taint
// node.kubernetes.io/out-of-service) and that is not ready.
func outOfService(pod *corev1.Pod, node *corev1.Node) bool {
	if pod.DeletionTimestamp == nil || node == nil {
		return false
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return false
		}
	}
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// surplus returns the finished pods beyond the threshold: the evicted ones first, then the oldest. A threshold of 0 or
// less keeps all.
func surplus(pods []*corev1.Pod, threshold int) []*corev1.Pod {
	var finished []*corev1.Pod
	for _, pod := range pods {
		if podstate.Terminal(pod) && pod.DeletionTimestamp == nil {
			finished = append(finished, pod)
		}
	}
	if threshold <= 0 || len(finished) <= threshold {
		return nil
	}
	slices.SortFunc(finished, func(a, b *corev1.Pod) int {
		if evicted(a) != evicted(b) {
			if evicted(a) {
				return -1
			}
			return 1
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name))
	})
	return finished[:len(finished)-threshold]
}

func evicted(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed && pod.Status.Reason == "Evicted"
}
