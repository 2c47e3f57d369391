package status

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/nodeagent/plan"
)

// conditions sets the conditions that the node owns and leaves all others as they are in the API now.
func conditions(st *corev1.PodStatus, in Input) {
	old := st.Conditions
	st.Conditions = nil
	for _, c := range in.Pod.Status.Conditions {
		if !owned(c.Type) {
			st.Conditions = append(st.Conditions, c)
		}
	}
	ready := containersReady(st, in)
	podReady := ready
	podReady.Type = corev1.PodReady
	if ready.Status == corev1.ConditionTrue {
		podReady = gates(in, podReady)
	}
	own := append(resizing(st, in), sandboxReady(in, old), initialized(st, in), podReady, ready,
		corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	for _, c := range own {
		c.ObservedGeneration = in.Pod.Generation
		c.LastTransitionTime = metav1.NewTime(in.Now).Rfc3339Copy()
		if o := condition(old, c.Type); o != nil && o.Status == c.Status && !o.LastTransitionTime.IsZero() {
			c.LastTransitionTime = o.LastTransitionTime
			c.LastProbeTime = o.LastProbeTime
		}
		st.Conditions = append(st.Conditions, c)
	}
}

// ownedConditions are the conditions that the node writes. Those about resizing come and go.
var ownedConditions = []corev1.PodConditionType{
	corev1.PodResizePending, corev1.PodResizeInProgress,
	corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
}

func owned(t corev1.PodConditionType) bool { return slices.Contains(ownedConditions, t) }

// resizing tells of a change of the pod's resources that is not granted, or not made yet.
func resizing(st *corev1.PodStatus, in Input) []corev1.PodCondition {
	if !in.Facts.Ended.IsZero() || final(st.Phase) {
		return nil
	}
	var out []corev1.PodCondition
	if p := in.Facts.Resize.Pending; p != nil {
		out = append(out, corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: p.Reason, Message: p.Message})
	}
	running := map[string]string{}
	for _, list := range [][]corev1.ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses} {
		for _, s := range list {
			if s.State.Running != nil {
				running[s.Name] = strings.TrimPrefix(s.ContainerID, IDPrefix)
			}
		}
	}
	if plan.Resizing(in.Pod, in.Facts, running) {
		c := corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}
		if e := in.Facts.Resize.Error; e != "" {
			c.Reason, c.Message = corev1.PodReasonError, e
		}
		out = append(out, c)
	}
	return out
}

func condition(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

// IsReady says whether the status has the condition Ready set to True.
func IsReady(st *corev1.PodStatus) bool {
	c := condition(st.Conditions, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

func sandboxReady(in Input, old []corev1.PodCondition) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse}
	if in.Observed != nil && in.Observed.Alive && in.Facts.Failure == nil {
		c.Status = corev1.ConditionTrue
	}
	if final(in.Previous.Phase) {
		if o := condition(old, c.Type); o != nil {
			c.Status = o.Status
		}
	}
	if in.Terminal {
		c.Status = corev1.ConditionFalse
	}
	return c
}

func initialized(st *corev1.PodStatus, in Input) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	var incomplete []string
	for i := range in.Pod.Spec.InitContainers {
		spec := &in.Pod.Spec.InitContainers[i]
		s := find(st.InitContainerStatuses, spec.Name)
		done := s != nil && s.Ready
		if plan.IsSidecar(spec) {
			done = s != nil && deref(s.Started)
		}
		if !done {
			incomplete = append(incomplete, spec.Name)
		}
	}
	if st.Phase == corev1.PodSucceeded {
		c.Reason = "PodCompleted"
		return c
	}
	for _, s := range st.ContainerStatuses {
		if s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil {
			return c
		}
	}
	if len(incomplete) > 0 {
		c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: %s", incomplete)
	}
	return c
}

func containersReady(st *corev1.PodStatus, in Input) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	switch st.Phase {
	case corev1.PodSucceeded:
		c.Reason = "PodCompleted"
		return c
	case corev1.PodFailed:
		c.Reason = "PodFailed"
		return c
	}
	var unready []string
	for i := range in.Pod.Spec.InitContainers {
		spec := &in.Pod.Spec.InitContainers[i]
		if s := find(st.InitContainerStatuses, spec.Name); plan.IsSidecar(spec) && (s == nil || !s.Ready) {
			unready = append(unready, spec.Name)
		}
	}
	for i := range in.Pod.Spec.Containers {
		name := in.Pod.Spec.Containers[i].Name
		if s := find(st.ContainerStatuses, name); s == nil || !s.Ready {
			unready = append(unready, name)
		}
	}
	if len(unready) > 0 {
		c.Reason, c.Message = "ContainersNotReady", fmt.Sprintf("containers with unready status: %s", unready)
		return c
	}
	c.Status = corev1.ConditionTrue
	return c
}

// gates holds a pod back whose readiness gates are not all True.
func gates(in Input, c corev1.PodCondition) corev1.PodCondition {
	var missing []string
	for _, g := range in.Pod.Spec.ReadinessGates {
		switch have := condition(in.Pod.Status.Conditions, g.ConditionType); {
		case have == nil:
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType))
		case have.Status != corev1.ConditionTrue:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", g.ConditionType, have.Status))
		}
	}
	if len(missing) > 0 {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(missing, ", ")
	}
	return c
}
