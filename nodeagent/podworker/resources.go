package podworker

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/plan"
	"hardway/nodeagent/podworker/compose"
	"hardway/nodeagent/podworker/resize"
	"hardway/nodeagent/runtime"
	"hardway/nodeagent/status"
)

// allocate decides about changed resources and returns the pod with those that are allocated to it.
func (w *worker) allocate(pod *corev1.Pod) *corev1.Pod {
	if w.allocation == nil {
		w.allocation = resize.Reported(pod)
		w.facts.Resize.Pod = pod.Spec.Resources
		if pod.Spec.Resources != nil && pod.Status.Resources != nil {
			w.facts.Resize.Pod = pod.Status.Resources
		}
	}
	r := &w.facts.Resize
	if !w.allocation.Differs(pod) {
		w.allocation, r.Pending = resize.Spec(pod), nil // containers that came later are in it
		w.mu.Lock()
		w.granted, w.deferred = pod, false
		w.mu.Unlock()
		return pod
	}
	if r.Pending == nil || r.Pending.Reason == corev1.PodReasonDeferred || r.Generation != pod.Generation {
		if r.Pending = w.grant(w, pod); r.Pending == nil {
			w.allocation = resize.Spec(pod)
			r.Step.Retry, r.Error = pod.CreationTimestamp.Time, ""
			w.Note(pod, nil, corev1.EventTypeNormal, "ResizeStarted", "Pod resize started")
		} else if r.Generation != pod.Generation {
			w.Note(pod, nil, corev1.EventTypeWarning, "Resize"+r.Pending.Reason, "Pod resize %s: %s", r.Pending.Reason, r.Pending.Message)
		}
	}
	r.Generation = pod.Generation
	return w.allocation.Apply(pod)
}

// enforced is what the kernel enforces for a container that this agent did not start: what an earlier one reported of it.
func (w *worker) enforced(pod *corev1.Pod, spec *corev1.Container, c runtime.Status) corev1.ResourceRequirements {
	if s := FindStatus(&pod.Status, c.Name); s != nil && s.ContainerID == status.IDPrefix+c.ID && s.Resources != nil {
		return *s.Resources.DeepCopy()
	}
	return *spec.Resources.DeepCopy()
}

// change is one container that gets other resources.
type change struct {
	id, name string
	wants    corev1.ResourceRequirements
	limits   runtime.Resources
}

// resizeContainers makes the kernel enforce what is allocated. While some containers have their old and others their new
// limits, the pod as a whole has the larger ones: no cgroup may promise more than the one above it.
func (w *worker) resizeContainers(pod *corev1.Pod) {
	r := &w.facts.Resize
	r.Step.Busy = true
	w.mu.Lock()
	seen := w.seen
	w.mu.Unlock()
	node := w.Node()
	before := w.enforcedPod(pod, seen)
	old, final := compose.PodResources(before, node), compose.PodResources(pod, node)
	var todo []change
	for _, c := range seen.Containers {
		spec := FindContainer(pod, c.Name)
		have, known := r.Enforced[c.ID]
		if c.State == runtime.Running && spec != nil && known && !plan.SameResources(have, spec.Resources) {
			todo = append(todo, change{c.ID, c.Name, *spec.Resources.DeepCopy(), compose.ContainerResources(pod, spec, node)})
		}
	}
	w.task(w.starting, func(ctx context.Context) func() {
		meanwhile := final
		meanwhile.MemoryLimit = resize.Larger(old.MemoryLimit, final.MemoryLimit)
		meanwhile.CPUQuota = resize.Larger(old.CPUQuota, final.CPUQuota)
		err := w.Runtime.ResizePod(ctx, w.uid, meanwhile)
		var done []change
		for _, c := range todo {
			if err != nil {
				break
			}
			if err = resizeOne(ctx, w.Runtime, w.uid, c); err == nil {
				done = append(done, c)
			}
		}
		if err == nil {
			err = w.Runtime.ResizePod(ctx, w.uid, final)
		}
		return func() { w.resized(pod, done, err) }
	})
}

func resizeOne(ctx context.Context, r Runtime, uid types.UID, c change) error {
	if err := r.ResizeContainer(ctx, uid, c.id, c.limits); err != nil {
		return fmt.Errorf("container %s: %w", c.name, err)
	}
	return nil
}

// enforcedPod is the pod with what the kernel enforces now.
func (w *worker) enforcedPod(pod *corev1.Pod, seen *runtime.PodStatus) *corev1.Pod {
	out := pod.DeepCopy()
	for _, c := range seen.Containers {
		have, known := w.facts.Resize.Enforced[c.ID]
		if spec := FindContainer(out, c.Name); spec != nil && known && c.State == runtime.Running {
			spec.Resources = have
		}
	}
	if have := w.facts.Resize.Pod; have != nil {
		out.Spec.Resources = have
	}
	return out
}

// resized notes how far a resize came.
func (w *worker) resized(pod *corev1.Pod, done []change, err error) {
	r := &w.facts.Resize
	for _, c := range done {
		r.Enforced[c.id] = c.wants
	}
	w.settle(&r.Step, err)
	if err == nil {
		r.Pod, r.Error = pod.Spec.Resources, ""
		w.Note(pod, nil, corev1.EventTypeNormal, "ResizeCompleted", "Pod resize completed")
		return
	}
	if !errors.Is(err, context.Canceled) && r.Error != err.Error() {
		r.Error = err.Error()
		w.Note(pod, nil, corev1.EventTypeWarning, "ResizeError", "Pod resize error: %v", err)
	}
}
