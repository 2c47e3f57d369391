package podworker

import (
	"maps"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/plan"
	"hardway/nodeagent/probe"
	"hardway/nodeagent/runtime"
	"hardway/nodeagent/status"
)

// look brings the facts about running containers up to date: probes, hooks, and what ended containers left behind.
func (w *worker) look(pod *corev1.Pod, observed *runtime.PodStatus) {
	running := map[string]bool{}
	if observed != nil && observed.Alive {
		for _, c := range observed.Containers {
			if c.State != runtime.Running {
				continue
			}
			running[c.ID] = true
			spec := FindContainer(pod, c.Name)
			if spec == nil {
				continue
			}
			w.probe(pod, observed, spec, c)
			if _, known := w.facts.Resize.Enforced[c.ID]; !known && !w.remembered(c.Name).Busy {
				w.facts.Resize.Enforced[c.ID] = w.enforced(pod, spec, c)
			}
		}
	}
	w.Prober.Keep(w.uid, running)
	maps.DeleteFunc(w.facts.Health, func(id string, _ plan.Health) bool { return !running[id] })
	w.forgetRemoved(observed)
}

// forgetRemoved drops what is remembered of instances that are no longer there.
func (w *worker) forgetRemoved(observed *runtime.PodStatus) {
	there := map[string]bool{}
	if observed != nil {
		for _, c := range observed.Containers {
			there[c.ID] = true
		}
	}
	maps.DeleteFunc(w.facts.Kills, func(id string, _ *plan.Kill) bool { return !there[id] })
	maps.DeleteFunc(w.facts.Hooks, func(id string, _ plan.Hook) bool { return !there[id] })
	maps.DeleteFunc(w.facts.Removing, func(id string, _ bool) bool { return !there[id] })
	maps.DeleteFunc(w.facts.Resize.Enforced, func(id string, _ corev1.ResourceRequirements) bool { return !there[id] })
	maps.DeleteFunc(w.messages, func(id string, _ string) bool { return !there[id] })
}

// probe starts the probes of a container once its postStart hook has ended, and takes over their results.
func (w *worker) probe(pod *corev1.Pod, observed *runtime.PodStatus, spec *corev1.Container, c runtime.Status) {
	reported := FindStatus(&pod.Status, c.Name)
	if reported != nil && (reported.ContainerID != status.IDPrefix+c.ID || reported.State.Running == nil) {
		reported = nil
	}
	if spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil {
		if w.facts.Hooks[c.ID] == "" && reported != nil {
			w.facts.Hooks[c.ID] = plan.HookDone
		}
		if w.facts.Hooks[c.ID] != plan.HookDone {
			return
		}
	}
	w.Prober.Watch(probe.Target{
		Pod: pod, Container: spec, ID: c.ID, IP: w.address(pod, observed), StartedAt: c.StartedAt,
		WasStarted: reported != nil && reported.Started != nil && *reported.Started,
		WasReady:   reported != nil && reported.Ready,
	})
	if h, ok := w.Prober.Health(c.ID); ok {
		w.facts.Health[c.ID] = h
	}
}

// address is where the pod is reached from the node.
func (w *worker) address(pod *corev1.Pod, observed *runtime.PodStatus) string {
	if ips := w.addresses(pod, observed); len(ips) > 0 {
		return ips[0]
	}
	return ""
}

func (w *worker) addresses(pod *corev1.Pod, observed *runtime.PodStatus) []string {
	if pod.Spec.HostNetwork {
		return w.HostIPs
	}
	var out []string
	for _, a := range observed.IPs {
		out = append(out, a.String())
	}
	return out
}

// FindContainer returns the container of that name, of whatever kind; nil if there is none.
func FindContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			return &c
		}
	}
	return nil
}

// FindStatus returns the status of the container of that name, of whatever kind; nil if there is none.
func FindStatus(st *corev1.PodStatus, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{st.ContainerStatuses, st.InitContainerStatuses, st.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
