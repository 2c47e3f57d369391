package plan

import (
	"fmt"
	"time"
)

// restarts says whether a container that has ended is to be started again.
func (p *planner) restarts(v *view) bool {
	if k := p.Facts.Kills[v.id]; k != nil && k.Restart && ShouldRestart(p.Pod, v.spec, lostExitCode) {
		return true
	}
	return ShouldRestart(p.Pod, v.spec, v.code)
}

// restart starts an ended container again when its back-off is over.
func (p *planner) restart(v *view) {
	delay := p.delay(v)
	if k := p.Facts.Kills[v.id]; k != nil && k.Resize {
		p.launch(v, delay)
		return
	}
	if delay > 0 && p.after(v.finished.Add(delay)) {
		p.out.Waiting[v.spec.Name] = Waiting{"CrashLoopBackOff", fmt.Sprintf(
			"back-off %s restarting failed container=%s pod=%s_%s(%s)", delay, v.spec.Name, p.Pod.Name, p.Pod.Namespace, p.Pod.UID)}
		if p.facts(v.spec.Name).Noted != v.id {
			p.do(NoteCrashBackOff{v.spec, v.id})
		}
		return
	}
	next := p.Settings.RestartDelay
	if delay > 0 {
		next = 2 * delay
	}
	if k := p.Facts.Kills[v.id]; k != nil && k.Waiting.Reason != "" {
		p.out.Waiting[v.spec.Name] = k.Waiting
	}
	p.launch(v, min(next, p.Settings.MaxRestartDelay))
}

// delay is the back-off between the end of the newest instance and its successor. The first restart comes at once,
// as upstream's does. What was remembered about earlier restarts is lost when the agent restarts; the number of
// restarts stands in for it.
func (p *planner) delay(v *view) time.Duration {
	f := p.facts(v.spec.Name)
	last, delay := f.Last, f.Delay
	if last.IsZero() && v.attempt > 0 {
		last, delay = v.started, p.Settings.RestartDelay
		for range min(v.attempt-1, 32) {
			delay = min(2*delay, p.Settings.MaxRestartDelay)
		}
	}
	if delay == 0 || v.finished.Sub(last) >= p.Settings.ResetAfter {
		return 0
	}
	return min(delay, p.Settings.MaxRestartDelay)
}

// launch asks for the next instance of a container, unless one is on its way or the last attempt failed too recently.
func (p *planner) launch(v *view, delay time.Duration) {
	f := p.facts(v.spec.Name)
	if f.Waiting.Reason != "" {
		p.out.Waiting[v.spec.Name] = f.Waiting
	}
	switch {
	case f.Busy:
	case p.after(f.Retry):
		if !f.NoteAt.IsZero() && !p.after(f.NoteAt) {
			p.do(NotePullBackOff{v.spec})
		}
	default:
		p.do(StartContainer{Container: v.spec, Attempt: v.attempt + 1, Delay: delay})
	}
}
