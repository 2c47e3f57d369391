package core

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// reasonNodeLost is the status reason of pods on a node that no longer answers.
const reasonNodeLost = "NodeLost"

func podColumns() []resource.Column[corev1.Pod] {
	spec, status := corev1.PodSpec{}.SwaggerDoc(), corev1.PodStatus{}.SwaggerDoc()
	return []resource.Column[corev1.Pod]{
		{Name: "Ready", Describe: "The aggregate readiness state of this pod for accepting traffic.", Value: func(p *corev1.Pod) any {
			s := summarize(p)
			return fmt.Sprintf("%d/%d", s.ready, s.total)
		}},
		{Name: "Status", Describe: "The aggregate status of the containers in this pod.", Value: func(p *corev1.Pod) any { return summarize(p).reason }},
		{Name: "Restarts", Describe: "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
			Value: func(p *corev1.Pod) any { return summarize(p).restarted() }},
		show.Age[corev1.Pod](),
		{Name: "IP", Wide: true, Describe: status["podIP"], Value: func(p *corev1.Pod) any {
			if len(p.Status.PodIPs) == 0 {
				return show.None
			}
			return show.Or(p.Status.PodIPs[0].IP, show.None)
		}},
		{Name: "Node", Wide: true, Describe: spec["nodeName"], Value: func(p *corev1.Pod) any { return show.Or(p.Spec.NodeName, show.None) }},
		{Name: "Nominated Node", Wide: true, Describe: status["nominatedNodeName"], Value: func(p *corev1.Pod) any {
			return show.Or(p.Status.NominatedNodeName, show.None)
		}},
		{Name: "Readiness Gates", Wide: true, Describe: spec["readinessGates"], Value: showGates},
	}
}

// summary is a pod in a line.
type summary struct {
	ready, total int
	reason       string
	restarts     int
	lastRestart  time.Time
}

func (s summary) restarted() string {
	if s.restarts == 0 || s.lastRestart.IsZero() {
		return strconv.Itoa(s.restarts)
	}
	return fmt.Sprintf("%d (%s ago)", s.restarts, show.Since(s.lastRestart))
}

// count adds a container's restarts.
func (s *summary) count(c *corev1.ContainerStatus) {
	s.restarts += int(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && s.lastRestart.Before(t.FinishedAt.Time) {
		s.lastRestart = t.FinishedAt.Time
	}
}

// summarize finds the one word that says best how a pod is: what its init containers wait for while they run, then
// what its containers wait for or died of, then its phase.
func summarize(p *corev1.Pod) summary {
	s := summary{total: len(p.Spec.Containers), reason: show.Or(p.Status.Reason, string(p.Status.Phase))}
	if c := podCondition(&p.Status, corev1.PodScheduled); c != nil && c.Reason == corev1.PodReasonSchedulingGated {
		s.reason = corev1.PodReasonSchedulingGated
	}
	sidecars := map[string]bool{}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; restartable(c) {
			sidecars[c.Name] = true
			s.total++
		}
	}
	initializing, sidecarRestarts := s.initContainers(p, sidecars)
	initialized := podCondition(&p.Status, corev1.PodInitialized)
	if !initializing || initialized != nil && initialized.Status == corev1.ConditionTrue {
		s.restarts, s.lastRestart = sidecarRestarts.restarts, sidecarRestarts.lastRestart
		s.containers(p)
	}
	if p.DeletionTimestamp != nil {
		switch {
		case p.Status.Reason == reasonNodeLost:
			s.reason = "Unknown"
		case p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded:
			s.reason = "Terminating"
		}
	}
	return s
}

// initContainers looks at the init containers up to the first that is not done. It returns whether there is such a
// one, and the restarts of the sidecars alone.
func (s *summary) initContainers(p *corev1.Pod, sidecars map[string]bool) (initializing bool, ofSidecars summary) {
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		s.count(c)
		if sidecars[c.Name] {
			ofSidecars.count(c)
		}
		switch died, waits := c.State.Terminated, c.State.Waiting; {
		case died != nil && died.ExitCode == 0:
			continue
		case sidecars[c.Name] && deref(c.Started):
			if c.Ready {
				s.ready++
			}
			continue
		case died != nil:
			s.reason = "Init:" + deathOf(died)
		case waits != nil && waits.Reason != "" && waits.Reason != "PodInitializing":
			s.reason = "Init:" + waits.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true, ofSidecars
	}
	return false, ofSidecars
}

// containers looks at the containers, the first one last: its word counts most.
func (s *summary) containers(p *corev1.Pod) {
	running, failure := false, ""
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &p.Status.ContainerStatuses[i]
		s.count(c)
		switch died, waits := c.State.Terminated, c.State.Waiting; {
		case waits != nil && waits.Reason != "":
			s.reason = waits.Reason
		case died != nil:
			s.reason = deathOf(died)
			if died.ExitCode != 0 {
				failure = s.reason
			}
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason != "Completed" {
		return
	}
	ready := podCondition(&p.Status, corev1.PodReady)
	switch {
	case running && ready != nil && ready.Status == corev1.ConditionTrue:
		s.reason = "Running"
	case failure != "":
		s.reason = failure
	case running:
		s.reason = "NotReady"
	}
}

func deathOf(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func showGates(p *corev1.Pod) any {
	if len(p.Spec.ReadinessGates) == 0 {
		return show.None
	}
	open := 0
	for _, gate := range p.Spec.ReadinessGates {
		if c := podCondition(&p.Status, gate.ConditionType); c != nil && c.Status == corev1.ConditionTrue {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(p.Spec.ReadinessGates))
}
