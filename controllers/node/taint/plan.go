package taint

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"hardway/controllers/podstate"
)

// verdict says whether and when a pod has to leave its node.
type verdict struct {
	leave bool          // it has to leave, now or later
	after time.Duration // from now; <= 0 is now
}

// makePlan compares the NoExecute taints of a node with the tolerations of a pod on it. A taint that nothing tolerates
// evicts at once; one that is tolerated for some seconds evicts when they have passed since the taint was seen here;
// the shortest counts. since says for how long a taint has been seen.
func makePlan(pod *corev1.Pod, taints []corev1.Taint, since func(corev1.Taint) time.Duration) verdict {
	var v verdict
	for i := range taints {
		if taints[i].Effect != corev1.TaintEffectNoExecute {
			continue
		}
		seconds, tolerated := tolerance(pod.Spec.Tolerations, &taints[i])
		switch {
		case !tolerated:
			return verdict{leave: true}
		case seconds == nil:
			continue
		}
		after := time.Duration(max(*seconds, 0))*time.Second - since(taints[i])
		if !v.leave || after < v.after {
			v = verdict{leave: true, after: after}
		}
	}
	return v
}

// tolerance returns the shortest time for which a taint is tolerated; nil seconds means for ever.
func tolerance(tolerations []corev1.Toleration, t *corev1.Taint) (seconds *int64, tolerated bool) {
	for i := range tolerations {
		if !podstate.Tolerates(&tolerations[i], t) {
			continue
		}
		tolerated = true
		if s := tolerations[i].TolerationSeconds; s != nil && (seconds == nil || *s < *seconds) {
			seconds = s
		}
	}
	return seconds, tolerated
}
