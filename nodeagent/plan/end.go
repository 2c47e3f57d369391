package plan

import (
	"fmt"
	"syscall"
	"time"
)

const (
	defaultGrace = 30 * time.Second
	minGrace     = time.Second     // a forced deletion still asks first
	minWindow    = 2 * time.Second // between SIGTERM and SIGKILL, however long a preStop hook took
	killAgain    = 5 * time.Second
)

// end takes the pod down: containers, then sidecars, then the final status, then everything else.
func (p *planner) end() {
	if p.stopAll() || p.starting() {
		return
	}
	p.out.Terminal = true
	if !p.Gone && !p.Facts.Reported {
		return
	}
	if p.Observed != nil || p.Facts.Mounted {
		if c := p.Facts.Cleanup; !c.Busy && !p.after(c.Retry) {
			p.do(CleanUp{})
		}
		return
	}
	switch {
	case p.Gone:
		p.out.Done = true
	case p.Pod.DeletionTimestamp != nil && !p.Facts.Deleting:
		p.do(DeletePod{})
	}
}

// starting says whether something begun before the end is still under way.
func (p *planner) starting() bool {
	if p.Facts.Sandbox.Busy || p.Facts.Volumes.Busy {
		return true
	}
	for _, c := range p.Facts.Containers {
		if c.Busy {
			return true
		}
	}
	return false
}

// stopAll kills what runs and says whether anything still does. Sidecars serve the containers, so they go after them,
// the last one started first (KEP-753).
func (p *planner) stopAll() bool {
	var sidecars []*view
	running := false
	for _, v := range p.views {
		switch {
		case !v.running:
		case v.role == sidecarRole:
			sidecars = append(sidecars, v)
		default:
			running = true
			p.kill(v, BeginKill{})
		}
	}
	if running {
		return true
	}
	if n := len(sidecars); n > 0 {
		p.kill(sidecars[n-1], BeginKill{})
		return true
	}
	return false
}

// kill takes a container one step further on its way out: hook, SIGTERM, SIGKILL. begin says how, if this is the
// first step.
func (p *planner) kill(v *view, begin BeginKill) {
	grace := p.grace()
	k := p.Facts.Kills[v.id]
	if k == nil {
		begin.Container, begin.ID = v.spec, v.id
		if begin.Grace == 0 || p.Pod.DeletionGracePeriodSeconds != nil {
			begin.Grace = grace
		}
		if begin.Message == "" {
			begin.Message = fmt.Sprintf("Stopping container %s", v.spec.Name)
		}
		p.do(begin)
		return
	}
	if p.out.Ending {
		grace = min(grace, k.Grace)
	} else {
		grace = k.Grace
	}
	end := k.Began.Add(grace)
	switch {
	case k.PreStop && p.after(end):
	case k.Term.IsZero():
		p.do(Signal{v.id, syscall.SIGTERM})
	case p.after(later(end, k.Term.Add(minWindow))):
	case k.Kill.IsZero() || !p.after(k.Kill.Add(killAgain)):
		p.do(Signal{v.id, syscall.SIGKILL})
	}
}

// grace is how long a container may take to stop: what the deletion says, else what the pod wishes.
func (p *planner) grace() time.Duration {
	switch {
	case p.Facts.EndGrace > 0:
		return p.Facts.EndGrace
	case p.Pod.DeletionGracePeriodSeconds != nil:
		return max(seconds(*p.Pod.DeletionGracePeriodSeconds), minGrace)
	case p.Pod.Spec.TerminationGracePeriodSeconds != nil:
		return max(seconds(*p.Pod.Spec.TerminationGracePeriodSeconds), minGrace)
	default:
		return defaultGrace
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
