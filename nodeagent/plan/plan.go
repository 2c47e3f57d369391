package plan

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// reasonDeadline is the status reason of a pod that outlived activeDeadlineSeconds.
const reasonDeadline = "DeadlineExceeded"

// planner collects the answer of one Next.
type planner struct {
	Input
	views []*view
	out   Plan
}

// Next returns what to do now for the pod, and when to ask again.
func Next(in Input) Plan {
	p := &planner{Input: in, views: views(in), out: Plan{Waiting: map[string]Waiting{}}}
	switch {
	case p.ending():
		p.out.Ending = true
		p.end()
	case p.overdue():
		p.do(FailPod{Failure{reasonDeadline, "Pod was active on the node longer than the specified deadline"}})
	case p.finished():
		p.out.Ending = true
		p.end()
	default:
		p.start()
	}
	return p.out
}

// ending says whether the pod's end has been decided outside of its containers.
func (p *planner) ending() bool {
	phase := p.Pod.Status.Phase
	return p.Gone || p.Pod.DeletionTimestamp != nil || p.Facts.Failure != nil || !p.Facts.Ended.IsZero() ||
		phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// overdue says whether activeDeadlineSeconds is over, and sees to it that Next is asked again when it will be.
func (p *planner) overdue() bool {
	d := p.Pod.Spec.ActiveDeadlineSeconds
	start := p.Pod.Status.StartTime
	if d == nil || start == nil {
		return false
	}
	return !p.after(start.Add(time.Duration(*d) * time.Second))
}

// finished says whether the pod has come to its end by itself: an init container failed for good, or every container
// has ended and none is started again.
func (p *planner) finished() bool {
	apps, ended := 0, 0
	for _, v := range p.views {
		switch v.role {
		case initRole:
			if v.exited && v.code != 0 && !p.restarts(v) {
				return true
			}
		case appRole:
			apps++
			if v.exited && !p.restarts(v) {
				ended++
			}
		}
	}
	return apps > 0 && apps == ended
}

// start brings the pod up and keeps it up.
func (p *planner) start() {
	ready := p.sandbox()
	ready = p.volumes() && ready
	if !ready {
		return
	}
	if p.initialize() {
		for _, v := range p.views {
			if v.role == appRole {
				p.keep(v)
			}
		}
	}
	for _, v := range p.views {
		if v.role == ephemeralRole {
			p.keep(v)
		}
		p.forgetOld(v)
	}
	p.resize()
}

// sandbox says whether a living sandbox is there, and asks for one if not.
func (p *planner) sandbox() bool {
	if p.Observed != nil && p.Observed.Alive {
		return true
	}
	s := p.Facts.Sandbox
	switch {
	case s.Busy || p.after(s.Retry):
	case !p.Pod.Spec.HostNetwork && !p.Settings.NetworkReady:
	default:
		p.do(MakeSandbox{})
	}
	return false
}

// volumes says whether all volumes are set up, and asks for it if not.
func (p *planner) volumes() bool {
	v := p.Facts.Volumes
	if !v.Done && !v.Busy && !p.after(v.Retry) {
		p.do(MountVolumes{})
	}
	return v.Done
}

// initialize runs init containers in order and keeps sidecars running. It says whether the containers may start.
func (p *planner) initialize() bool {
	initialized := p.everStarted()
	for _, v := range p.views {
		switch v.role {
		case sidecarRole:
			p.keep(v)
			if !initialized && !(v.running && p.Facts.Health[v.id].Started) {
				return false
			}
		case initRole:
			if initialized || v.exited && v.code == 0 {
				continue
			}
			p.keep(v)
			return false
		}
	}
	return true
}

// everStarted says whether an ordinary container has been started in this sandbox: then initialization is over and
// stays over, even when a sidecar restarts.
func (p *planner) everStarted() bool {
	for _, v := range p.views {
		if v.role == appRole && v.id != "" && v.current {
			return true
		}
	}
	return false
}

// keep starts a container, restarts it when it ended and its policy says so, and kills it when its probes fail.
func (p *planner) keep(v *view) {
	switch {
	case v.created: // the start under way ends in one of the other states
	case v.running:
		p.watch(v)
	case v.exited && p.restarts(v) && v.role != ephemeralRole:
		p.restart(v)
	case v.attempt < 0 || !v.exited && v.role != ephemeralRole:
		p.launch(v, 0)
	}
}

// watch looks after a running container: its postStart hook, its probes, and its end if that has begun.
func (p *planner) watch(v *view) {
	if _, dying := p.Facts.Kills[v.id]; dying {
		p.kill(v, BeginKill{})
		return
	}
	if v.spec.Lifecycle != nil && v.spec.Lifecycle.PostStart != nil {
		switch p.Facts.Hooks[v.id] {
		case "":
			p.do(RunPostStart{v.spec, v.id})
			return
		case HookRunning:
			return
		case HookFailed:
			p.kill(v, BeginKill{Message: "FailedPostStartHook", Restart: true, Waiting: Waiting{"PostStartHookError", "PostStartHook failed"}})
			return
		}
	}
	health := p.Facts.Health[v.id]
	switch {
	case health.StartupFailed:
		p.kill(v, BeginKill{
			Grace: probeGrace(v.spec.StartupProbe), Restart: true,
			Message: fmt.Sprintf("Container %s failed startup probe, will be restarted", v.spec.Name),
		})
	case health.NotLive:
		p.kill(v, BeginKill{
			Grace: probeGrace(v.spec.LivenessProbe), Restart: true,
			Message: fmt.Sprintf("Container %s failed liveness probe, will be restarted", v.spec.Name),
		})
	}
}

func probeGrace(p *corev1.Probe) time.Duration {
	if p == nil || p.TerminationGracePeriodSeconds == nil {
		return 0
	}
	return seconds(*p.TerminationGracePeriodSeconds)
}

// forgetOld removes instances beyond the current and the previous one, which `logs --previous` may ask for.
func (p *planner) forgetOld(v *view) {
	for _, c := range v.older {
		if !p.Facts.Removing[c.ID] {
			p.do(RemoveContainer{v.spec.Name, c.ID, c.Attempt, c.LogPath})
		}
	}
}

func (p *planner) do(a Action) { p.out.Actions = append(p.out.Actions, a) }

// after says whether t is still to come, and asks to be woken then.
func (p *planner) after(t time.Time) bool {
	if !t.After(p.Now) {
		return false
	}
	if p.out.Wake.IsZero() || t.Before(p.out.Wake) {
		p.out.Wake = t
	}
	return true
}

func (p *planner) facts(name string) Container {
	if c := p.Facts.Containers[name]; c != nil {
		return *c
	}
	return Container{}
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
