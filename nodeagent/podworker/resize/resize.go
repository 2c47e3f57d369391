// Package resize decides about changes of the cpu and memory of a running pod (KEP-1287). A pod's resources exist
// three times: what its spec wishes, what the node has allocated to it, and what the kernel enforces for each running
// container. This package compares the first two and is pure; the plan brings the third to the second, and the status
// shows the third. What is allocated survives a restart of the agent in the pod's status.
package resize

import (
	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/plan"
	"hardway/nodeagent/podworker/admit"
)

// Allocation is what a node has allocated to a pod.
type Allocation struct {
	pod        *corev1.ResourceRequirements
	containers map[string]corev1.ResourceRequirements
}

// Spec is the allocation that grants all of a pod's wishes.
func Spec(pod *corev1.Pod) *Allocation {
	a := &Allocation{pod: pod.Spec.Resources, containers: map[string]corev1.ResourceRequirements{}}
	each(&pod.Spec, func(c *corev1.Container) { a.containers[c.Name] = c.Resources })
	return a
}

// Reported is the allocation that the pod's status tells of: that of an earlier agent. What it does not say is granted.
func Reported(pod *corev1.Pod) *Allocation {
	a := Spec(pod)
	if pod.Spec.Resources != nil && pod.Status.Resources != nil {
		a.pod = merge(*pod.Spec.Resources, *pod.Status.Resources)
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range list {
			if spec, ok := a.containers[s.Name]; ok && s.Resources != nil && s.State.Running != nil {
				a.containers[s.Name] = *merge(spec, *s.Resources)
			}
		}
	}
	return a
}

// resizable are the resources that may change while a pod runs.
var resizable = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// merge is spec with the resizable resources of have.
func merge(spec, have corev1.ResourceRequirements) *corev1.ResourceRequirements {
	out := spec.DeepCopy()
	for _, l := range []struct{ to, from *corev1.ResourceList }{{&out.Requests, &have.Requests}, {&out.Limits, &have.Limits}} {
		for _, name := range resizable {
			delete(*l.to, name)
			if q, ok := (*l.from)[name]; ok {
				if *l.to == nil {
					*l.to = corev1.ResourceList{}
				}
				(*l.to)[name] = q
			}
		}
	}
	return out
}

// Differs says whether the pod wishes for something else than it has.
func (a *Allocation) Differs(pod *corev1.Pod) bool {
	differs := a.pod != nil && pod.Spec.Resources != nil && !plan.SameResources(*a.pod, *pod.Spec.Resources)
	each(&pod.Spec, func(c *corev1.Container) {
		have, ok := a.containers[c.Name]
		differs = differs || ok && !plan.SameResources(have, c.Resources)
	})
	return differs
}

// Apply returns the pod with what it has in the place of what it wishes for.
func (a *Allocation) Apply(pod *corev1.Pod) *corev1.Pod {
	if !a.Differs(pod) {
		return pod
	}
	out := pod.DeepCopy()
	if a.pod != nil {
		out.Spec.Resources = a.pod
	}
	each(&out.Spec, func(c *corev1.Container) {
		if have, ok := a.containers[c.Name]; ok {
			c.Resources = have
		}
	})
	return out
}

func each(spec *corev1.PodSpec, f func(*corev1.Container)) {
	for i := range spec.InitContainers {
		f(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		f(&spec.Containers[i])
	}
}

// Decide says why the node cannot grant the pod's wishes now, nil if it can. Reasons are the API's: Infeasible wishes can
// never be granted here, Deferred ones when other pods have gone.
func Decide(pod *corev1.Pod, n admit.Node) *plan.Failure {
	alone := n
	alone.Pods = nil
	if f := admit.Resources(pod, alone); f != nil {
		return &plan.Failure{Reason: corev1.PodReasonInfeasible, Message: f.Message}
	}
	if f := admit.Resources(pod, n); f != nil {
		return &plan.Failure{Reason: corev1.PodReasonDeferred, Message: f.Message}
	}
	return nil
}

// Larger is the limit that is right while some containers have their old and others their new one; 0 is no limit.
func Larger(a, b int64) int64 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}
