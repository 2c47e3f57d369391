package plan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// resize brings what the kernel enforces to what is allocated: in place, or by a restart where the container wants that.
func (p *planner) resize() {
	r := &p.Facts.Resize
	inPlace := r.Pod != nil && p.Pod.Spec.Resources != nil && !SameResources(*r.Pod, *p.Pod.Spec.Resources)
	for _, v := range p.views {
		have, known := r.Enforced[v.id]
		if !known || !v.running || v.created || SameResources(have, v.spec.Resources) {
			continue
		}
		if _, dying := p.Facts.Kills[v.id]; dying {
			continue
		}
		if restartsForResize(v.spec, have) {
			p.kill(v, BeginKill{
				Restart: true, Resize: true, Message: fmt.Sprintf("Container %s resize requires restart", v.spec.Name),
			})
			continue
		}
		inPlace = true
	}
	if inPlace && !r.Step.Busy && !p.after(r.Step.Retry) {
		p.do(ResizeContainers{})
	}
}

// Resizing says whether the kernel does not yet enforce what is allocated to a pod.
func Resizing(pod *corev1.Pod, f *Facts, running map[string]string) bool {
	r := &f.Resize
	if r.Step.Busy || r.Pod != nil && pod.Spec.Resources != nil && !SameResources(*r.Pod, *pod.Spec.Resources) {
		return true
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if have, ok := r.Enforced[running[list[i].Name]]; ok && !SameResources(have, list[i].Resources) {
				return true
			}
		}
	}
	return false
}

// restartsForResize says whether a change of one of the resources that differ needs a restart.
func restartsForResize(c *corev1.Container, have corev1.ResourceRequirements) bool {
	for _, policy := range c.ResizePolicy {
		name := policy.ResourceName
		if policy.RestartPolicy == corev1.RestartContainer &&
			(!sameQuantity(have.Requests, c.Resources.Requests, name) || !sameQuantity(have.Limits, c.Resources.Limits, name)) {
			return true
		}
	}
	return false
}

// SameResources says whether two sets of resources agree in what can be resized.
func SameResources(a, b corev1.ResourceRequirements) bool {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if !sameQuantity(a.Requests, b.Requests, name) || !sameQuantity(a.Limits, b.Limits, name) {
			return false
		}
	}
	return true
}

func sameQuantity(a, b corev1.ResourceList, name corev1.ResourceName) bool {
	x, y := a[name], b[name]
	return x.Cmp(y) == 0
}
