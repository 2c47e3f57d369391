package status

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/nodeagent/plan"
	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/runtime"
)

// Input is everything a status is computed from. Nothing of it is changed.
type Input struct {
	Pod      *corev1.Pod
	Previous corev1.PodStatus   // the last status computed for this pod, or the API's
	Observed *runtime.PodStatus // nil: no sandbox on this node
	Facts    *plan.Facts
	Waiting  map[string]plan.Waiting // by container name
	Terminal bool                    // nothing runs and nothing will
	HostIPs  []string
	// Image says how an image of the node is shown in imageID; empty if unknown.
	Image func(id string) string
	// Message is the termination message of an ended container.
	Message func(c runtime.Status) string
	Now     time.Time
}

// Compute returns the status of the pod. Conditions of other owners are kept; times of conditions that did not change
// are kept; a phase that is final stays.
func Compute(in Input) corev1.PodStatus {
	st := *in.Previous.DeepCopy()
	st.ObservedGeneration = in.Pod.Generation
	if st.StartTime == nil {
		t := metav1.NewTime(in.Now).Rfc3339Copy()
		st.StartTime = &t
	}
	if st.QOSClass == "" {
		st.QOSClass = fields.QOSClass(in.Pod)
	}
	addresses(&st, in)
	switch {
	case in.Facts.Failure != nil && in.Observed == nil && len(in.Previous.ContainerStatuses) == 0: // rejected: nothing ever ran
	case !final(in.Previous.Phase) || in.Observed != nil:
		containers(&st, in)
	}
	if r := in.Pod.Spec.Resources; r != nil {
		st.AllocatedResources, st.Resources = r.Requests, r.DeepCopy()
		if have := in.Facts.Resize.Pod; have != nil {
			st.Resources = have.DeepCopy()
		}
	}
	st.Phase = phase(in, &st)
	if f := in.Facts.Failure; f != nil {
		st.Phase, st.Reason, st.Message = corev1.PodFailed, f.Reason, f.Message
	}
	if final(in.Previous.Phase) {
		st.Phase = in.Previous.Phase
	}
	conditions(&st, in)
	return st
}

func final(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

func addresses(st *corev1.PodStatus, in Input) {
	if len(in.HostIPs) > 0 {
		st.HostIP = in.HostIPs[0]
		st.HostIPs = nil
		for _, ip := range in.HostIPs {
			st.HostIPs = append(st.HostIPs, corev1.HostIP{IP: ip})
		}
	}
	var ips []string
	switch {
	case in.Facts.Failure != nil && in.Observed == nil && st.PodIP == "":
	case in.Pod.Spec.HostNetwork:
		ips = in.HostIPs
	case in.Observed != nil:
		for _, a := range in.Observed.IPs {
			ips = append(ips, a.String())
		}
	}
	if len(ips) == 0 {
		return
	}
	st.PodIP, st.PodIPs = ips[0], nil
	for _, ip := range ips {
		st.PodIPs = append(st.PodIPs, corev1.PodIP{IP: ip})
	}
}

// phase follows upstream's rules: a pod is Pending until all its containers have been started once, Running while one
// runs or will run again, and final when none will.
func phase(in Input, st *corev1.PodStatus) corev1.PodPhase {
	pod := in.Pod
	pendingInit, failedInit := false, false
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		s := find(st.InitContainerStatuses, c.Name)
		if plan.IsSidecar(c) {
			pendingInit = pendingInit || s == nil || !ended(s) && !deref(s.Started)
			continue
		}
		t := lastEnd(s)
		switch {
		case s == nil || s.State.Running != nil || t == nil:
			pendingInit = true
		case t.ExitCode != 0:
			failedInit = failedInit || !plan.ShouldRestart(pod, c, int(t.ExitCode))
			pendingInit = true
		}
	}
	waiting, running, stopped, succeeded, over := 0, 0, 0, 0, 0
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		s := find(st.ContainerStatuses, c.Name)
		t := lastEnd(s)
		switch {
		case s != nil && s.State.Running != nil:
			running++
		case t != nil:
			stopped++
			if t.ExitCode == 0 {
				succeeded++
			}
			if !plan.ShouldRestart(pod, c, int(t.ExitCode)) {
				over++
			}
		default:
			waiting++
		}
	}
	started := running+stopped > 0
	deleted := in.Terminal && in.Pod.DeletionTimestamp != nil
	switch {
	case failedInit:
		return corev1.PodFailed
	case pendingInit && !started && !deleted, waiting > 0 && !in.Terminal:
		return corev1.PodPending
	case running > 0:
		return corev1.PodRunning
	case stopped > 0 && (in.Terminal || over == stopped):
		if waiting == 0 && succeeded == stopped {
			return corev1.PodSucceeded
		}
		return corev1.PodFailed
	case stopped > 0:
		return corev1.PodRunning
	case deleted:
		return corev1.PodFailed // deleted before any of its containers ran: who counts pods (Jobs) waits for a final phase (KEP-3329)
	default:
		return corev1.PodPending
	}
}

func ended(s *corev1.ContainerStatus) bool { return lastEnd(s) != nil }

// lastEnd is how the container ended last, nil if it runs or has never run.
func lastEnd(s *corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	switch {
	case s == nil || s.State.Running != nil:
		return nil
	case s.State.Terminated != nil:
		return s.State.Terminated
	default:
		return s.LastTerminationState.Terminated
	}
}

func find(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	if i := slices.IndexFunc(list, func(s corev1.ContainerStatus) bool { return s.Name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}

func deref(b *bool) bool { return b != nil && *b }
