package status

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/nodeagent/plan"
	"hardway/nodeagent/runtime"
)

// IDPrefix comes before container ids in the API: hardway://<id>.
const IDPrefix = "hardway://"

const (
	reasonCreating     = "ContainerCreating"
	reasonInitializing = "PodInitializing"
	reasonUnknown      = "ContainerStatusUnknown"
	lostExitCode       = 137
	startFailedCode    = 128
)

// containers fills in the three lists of container statuses.
func containers(st *corev1.PodStatus, in Input) {
	spec := &in.Pod.Spec
	idle := reasonCreating
	if len(spec.InitContainers) > 0 {
		idle = reasonInitializing
	}
	prev := in.Previous
	st.InitContainerStatuses = nil
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		s := container(in, c, find(prev.InitContainerStatuses, c.Name), idle)
		if !plan.IsSidecar(c) {
			s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
		}
		st.InitContainerStatuses = append(st.InitContainerStatuses, s)
	}
	st.ContainerStatuses = nil
	for i := range spec.Containers {
		c := &spec.Containers[i]
		st.ContainerStatuses = append(st.ContainerStatuses, container(in, c, find(prev.ContainerStatuses, c.Name), idle))
	}
	slices.SortFunc(st.ContainerStatuses, func(a, b corev1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) })
	st.EphemeralContainerStatuses = nil
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		s := container(in, &c, find(prev.EphemeralContainerStatuses, c.Name), reasonCreating)
		s.Ready, s.Started = false, nil
		st.EphemeralContainerStatuses = append(st.EphemeralContainerStatuses, s)
	}
}

// container computes the status of one container from its newest two instances and what was known before.
func container(in Input, c *corev1.Container, prev *corev1.ContainerStatus, idle string) corev1.ContainerStatus {
	s := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, Resources: resources(c), AllocatedResources: c.Resources.Requests,
		VolumeMounts: volumeMounts(c), Started: new(false),
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: idle}},
	}
	if prev != nil {
		s.RestartCount, s.LastTerminationState = prev.RestartCount, prev.LastTerminationState
		s.ImageID, s.ContainerID = prev.ImageID, prev.ContainerID
	}
	var instances []runtime.Status
	if in.Observed != nil {
		// One that is being started does not show yet.
		instances = slices.DeleteFunc(plan.Instances(*in.Observed, c.Name), func(i runtime.Status) bool { return i.State == runtime.Created })
	}
	switch {
	case len(instances) > 0:
		observed(&s, in, instances)
	case prev != nil && prev.State.Running != nil:
		lost(&s, in, prev)
	case prev != nil && prev.State.Terminated != nil:
		s.State = prev.State
	}
	if w, ok := in.Waiting[c.Name]; ok && s.State.Running == nil {
		if s.State.Terminated != nil {
			s.LastTerminationState = s.State
		}
		s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}}
	}
	return s
}

// observed takes over what the runtime says of the newest instance and of the one before it.
func observed(s *corev1.ContainerStatus, in Input, instances []runtime.Status) {
	newest := instances[0]
	s.RestartCount = int32(newest.Attempt)
	s.ContainerID = IDPrefix + newest.ID
	s.ImageID = newest.Image
	if in.Image != nil {
		if shown := in.Image(newest.Image); shown != "" {
			s.ImageID = shown
		}
	}
	s.State = state(in, newest)
	if have, ok := in.Facts.Resize.Enforced[newest.ID]; ok && newest.State == runtime.Running {
		s.Resources = have.DeepCopy()
		s.Resources.Claims = nil
	}
	if len(instances) > 1 {
		s.LastTerminationState = state(in, instances[1])
		s.LastTerminationState.Running, s.LastTerminationState.Waiting = nil, nil
	}
	if s.State.Running != nil {
		h := in.Facts.Health[newest.ID]
		s.Started, s.Ready = new(h.Started), h.Ready
		if _, dying := in.Facts.Kills[newest.ID]; dying && in.Facts.Ended.IsZero() {
			s.Ready = false
		}
	}
}

func state(in Input, c runtime.Status) corev1.ContainerState {
	switch {
	case c.State == runtime.Exited:
		return corev1.ContainerState{Terminated: terminated(in, c)}
	case c.State == runtime.Running && in.Facts.Hooks[c.ID] != plan.HookRunning:
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: stamp(c.StartedAt)}}
	default:
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reasonCreating}}
	}
}

func terminated(in Input, c runtime.Status) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(c.ExitCode), Reason: "Completed", StartedAt: stamp(c.StartedAt), FinishedAt: stamp(c.FinishedAt),
		ContainerID: IDPrefix + c.ID,
	}
	switch {
	case c.Reason != "" && c.StartedAt.IsZero():
		t.Reason, t.Message = "StartError", c.Reason
		if t.ExitCode == 0 {
			t.ExitCode = startFailedCode
		}
	case c.Reason != "":
		t.Reason, t.Message = reasonUnknown, c.Reason // it was lost with its sandbox
	case c.OOMKilled:
		t.Reason = "OOMKilled"
	case c.ExitCode != 0:
		t.Reason = "Error"
	}
	if in.Message != nil && c.Reason == "" {
		t.Message = in.Message(c)
	}
	return t
}

// lost is the status of a container that ran and of which nothing is left, as after a reboot of the node.
func lost(s *corev1.ContainerStatus, in Input, prev *corev1.ContainerStatus) {
	end := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: reasonUnknown, Message: "The container could not be located when the pod was terminated",
		ExitCode: lostExitCode, ContainerID: prev.ContainerID, StartedAt: prev.State.Running.StartedAt,
	}}
	if in.Terminal || !in.Facts.Ended.IsZero() {
		s.State = end
		return
	}
	s.LastTerminationState = end
}

// volumeMounts reports every mount; a read-only one is recursively so where the pod asked for it.
func volumeMounts(c *corev1.Container) []corev1.VolumeMountStatus {
	var out []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		v := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if r := m.RecursiveReadOnly; r != nil && *r != corev1.RecursiveReadOnlyDisabled {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			v.RecursiveReadOnly = &mode
		}
		out = append(out, v)
	}
	return out
}

func resources(c *corev1.Container) *corev1.ResourceRequirements {
	r := c.Resources.DeepCopy()
	r.Claims = nil
	return r
}

func stamp(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.Unix(t.Unix(), 0)
}
