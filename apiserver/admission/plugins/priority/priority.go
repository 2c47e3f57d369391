// Package priority turns a pod's priority class into the number that the scheduler goes by. Only the two classes of the
// system exist: there are no PriorityClass objects yet, and any other name is refused.
package priority

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
)

// Plugin is the plugin.
type Plugin struct{}

// The system's classes; their values lie above all that users can choose.
const (
	clusterCritical = "system-cluster-critical"
	nodeCritical    = "system-node-critical"

	clusterCriticalValue int32 = 2_000_000_000
	nodeCriticalValue    int32 = 2_000_001_000
)

// Name is upstream's.
func (Plugin) Name() string { return "Priority" }

// Mutate sets priority and preemption policy of a new pod.
func (Plugin) Mutate(_ context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Subresource != "" {
		return nil
	}
	switch a.Operation {
	case admission.Create:
		return set(a, pod)
	case admission.Update:
		if old, ok := a.Old.(*corev1.Pod); ok && pod.Spec.Priority == nil {
			pod.Spec.Priority = old.Spec.Priority
		}
	}
	return nil
}

func set(a *admission.Attributes, pod *corev1.Pod) error {
	var value int32
	switch name := pod.Spec.PriorityClassName; name {
	case "":
	case clusterCritical:
		value = clusterCriticalValue
	case nodeCritical:
		value = nodeCriticalValue
	default:
		return admission.Forbid(a, "no PriorityClass with name %v was found", name)
	}
	if has := pod.Spec.Priority; has != nil && *has != value {
		return admission.Forbid(a, "the integer value of priority (%d) must not be provided in pod spec; priority admission "+
			"controller computed %d from the given PriorityClass name", *has, value)
	}
	policy := corev1.PreemptLowerPriority
	if has := pod.Spec.PreemptionPolicy; has != nil && *has != policy {
		return admission.Forbid(a, "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority "+
			"admission controller computed %s from the given PriorityClass name", *has, policy)
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}
