package podstate

import (
	corev1 "k8s.io/api/core/v1"
)

// Tolerates follows the API's rule: an empty effect or key matches all (an empty key needs Exists), Exists asks only
// for the key, Equal also for the value.
func Tolerates(tol *corev1.Toleration, t *corev1.Taint) bool {
	if (tol.Effect != "" && tol.Effect != t.Effect) || (tol.Key != "" && tol.Key != t.Key) {
		return false
	}
	switch tol.Operator {
	case corev1.TolerationOpExists:
		return true
	case corev1.TolerationOpEqual, "":
		return tol.Key != "" && tol.Value == t.Value
	default:
		return false
	}
}
