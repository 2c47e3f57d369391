package framework

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// Tolerates says whether one of the tolerations covers the taint.
func Tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		if tolerations[i].ToleratesTaint(klog.Logger{}, taint, false) {
			return true
		}
	}
	return false
}
