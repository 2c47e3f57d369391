package plan

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/runtime"
)

// role says which rules apply to a container.
type role int

const (
	initRole      role = iota // runs to its end before the next one starts
	sidecarRole               // an init container that stays
	appRole                   // an ordinary container
	ephemeralRole             // added to a running pod for debugging; never restarted
)

// lostExitCode is what upstream reports for a container that disappeared.
const lostExitCode = 137

// view is one container of the spec with all that is known of its newest instance.
type view struct {
	spec     *corev1.Container
	role     role
	id       string
	running  bool
	created  bool // running so far that it is being started
	exited   bool
	code     int
	finished time.Time
	started  time.Time
	attempt  int  // of the newest instance ever; -1: there was none
	current  bool // the newest instance belongs to the sandbox that is there now
	older    []runtime.Status
}

// IsSidecar says whether an init container stays while the pod runs.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// views lists the containers of the pod in spec order.
func views(in Input) []*view {
	spec := &in.Pod.Spec
	var out []*view
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		r := initRole
		if IsSidecar(c) {
			r = sidecarRole
		}
		out = append(out, newView(in, c, r, in.Pod.Status.InitContainerStatuses))
	}
	for i := range spec.Containers {
		out = append(out, newView(in, &spec.Containers[i], appRole, in.Pod.Status.ContainerStatuses))
	}
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		out = append(out, newView(in, &c, ephemeralRole, in.Pod.Status.EphemeralContainerStatuses))
	}
	return out
}

func newView(in Input, c *corev1.Container, r role, reported []corev1.ContainerStatus) *view {
	v := &view{spec: c, role: r, attempt: -1}
	v.fromAPI(in, reported)
	if in.Observed == nil {
		return v
	}
	instances := Instances(*in.Observed, c.Name)
	if len(instances) == 0 {
		return v
	}
	newest := instances[0]
	v.id, v.attempt = newest.ID, newest.Attempt
	v.current = in.Observed.Alive && !newest.CreatedAt.Before(in.Observed.CreatedAt)
	if len(instances) > 2 {
		v.older = instances[2:]
	}
	if r == initRole && !v.current {
		return v // what it prepared went with its sandbox: it runs again
	}
	v.code, v.started, v.finished = newest.ExitCode, newest.StartedAt, newest.FinishedAt
	v.exited = newest.State == runtime.Exited
	v.running = !v.exited
	v.created = newest.State == runtime.Created
	return v
}

// fromAPI takes from the reported status what survives the loss of the sandbox: how often the container was started
// and, for containers that do not run again with every new sandbox, how it ended.
func (v *view) fromAPI(in Input, reported []corev1.ContainerStatus) {
	i := slices.IndexFunc(reported, func(s corev1.ContainerStatus) bool { return s.Name == v.spec.Name })
	if i < 0 || reported[i].ContainerID == "" && reported[i].RestartCount == 0 {
		return
	}
	s := reported[i]
	v.attempt = int(s.RestartCount)
	if v.role == initRole || v.role == sidecarRole || in.Observed != nil {
		return
	}
	switch {
	case s.State.Terminated != nil:
		v.exited, v.code, v.finished = true, int(s.State.Terminated.ExitCode), s.State.Terminated.FinishedAt.Time
	case s.State.Running != nil:
		v.exited, v.code = true, lostExitCode
	case s.LastTerminationState.Terminated != nil:
		t := s.LastTerminationState.Terminated
		v.exited, v.code, v.finished = true, int(t.ExitCode), t.FinishedAt.Time
	}
}

// Instances returns the instances of a container, newest first.
func Instances(p runtime.PodStatus, name string) []runtime.Status {
	var out []runtime.Status
	for _, c := range p.Containers {
		if c.Name == name {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b runtime.Status) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return out
}

// ShouldRestart says whether a container that ended with code is started again, by its own policy and rules or by the
// pod's. Source: KEP-753 (sidecars), KEP-5307 (container restart rules).
func ShouldRestart(pod *corev1.Pod, c *corev1.Container, code int) bool {
	for _, rule := range c.RestartPolicyRules {
		if rule.Action == corev1.ContainerRestartRuleActionRestart && matches(rule.ExitCodes, code) {
			return true
		}
	}
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	default:
		return true
	}
}

func matches(r *corev1.ContainerRestartRuleOnExitCodes, code int) bool {
	if r == nil {
		return false
	}
	in := slices.Contains(r.Values, int32(code))
	switch r.Operator {
	case corev1.ContainerRestartRuleOnExitCodesOpIn:
		return in
	case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
		return !in
	default:
		return false
	}
}
