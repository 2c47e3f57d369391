// Package defaulttolerationseconds lets every pod stay for some minutes on a node that is not ready or unreachable,
// unless the pod says itself how it takes that.
package defaulttolerationseconds

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
)

// Plugin is the plugin. Zero values mean DefaultSeconds.
type Plugin struct{ NotReady, Unreachable int64 }

// DefaultSeconds is upstream's default.
const DefaultSeconds = 300

// Name is upstream's.
func (Plugin) Name() string { return "DefaultTolerationSeconds" }

// Mutate adds the tolerations that a new or changed pod lacks.
func (p Plugin) Mutate(_ context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Subresource != "" || a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	add(pod, corev1.TaintNodeNotReady, p.NotReady)
	add(pod, corev1.TaintNodeUnreachable, p.Unreachable)
	return nil
}

func add(pod *corev1.Pod, taint string, seconds int64) {
	for _, t := range pod.Spec.Tolerations {
		if (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return
		}
	}
	if seconds == 0 {
		seconds = DefaultSeconds
	}
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
		Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
	})
}
