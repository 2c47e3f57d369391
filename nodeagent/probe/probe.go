// Package probe asks containers whether they have started, are alive and are ready.
//
// One goroutine per probe of a running container; it ends with the container. Results are held in memory and shown as
// a plan.Health per container instance. A result that changes wakes the pod's worker; nothing else does.
//
// A container that was ready before the agent was restarted stays ready until a probe says otherwise, so a restart of
// the agent never takes a pod out of its Services.
package probe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/plan"
)

// Target is a running container instance with what its probes need to reach it.
type Target struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	ID        string
	IP        string // of the pod
	StartedAt time.Time
	// WasStarted and WasReady are what the API says of this very instance, before anything has been probed.
	WasStarted, WasReady bool
}

// Exec runs a command in a container and returns its exit code and the beginning of its output.
type Exec func(ctx context.Context, uid types.UID, id string, cmd []string) (int, string, error)

// Note tells the user something about a container.
type Note func(pod *corev1.Pod, c *corev1.Container, eventtype, reason, format string, args ...any)

// Prober runs the probes of all containers of the node.
type Prober struct {
	exec    Exec
	note    Note
	changed func(types.UID)
	log     *zap.Logger

	mu    sync.Mutex // guards runs
	runs  map[string]*run
	ended sync.WaitGroup
}

// run is the probing of one container instance. mu of the prober guards health.
type run struct {
	cancel context.CancelFunc // everything
	calm   context.CancelFunc // startup and liveness
	health plan.Health
	uid    types.UID
}

// New returns a prober; changed is called whenever the health of one of the pod's containers has changed.
func New(exec Exec, note Note, changed func(types.UID), log *zap.Logger) *Prober {
	return &Prober{exec: exec, note: note, changed: changed, log: log, runs: map[string]*run{}}
}

// Watch starts probing a container instance unless that has been done.
func (p *Prober) Watch(t Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.runs[t.ID]; ok {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	vital, calm := context.WithCancel(ctx)
	r := &run{cancel: cancel, calm: calm, uid: t.Pod.UID}
	c := t.Container
	r.health.Started = c.StartupProbe == nil || t.WasStarted
	r.health.Ready = r.health.Started && (c.ReadinessProbe == nil || t.WasReady)
	p.runs[t.ID] = r
	p.ended.Go(func() { p.follow(ctx, vital, t, r) })
}

// Health returns what is known of a container instance; false if it is not being watched.
func (p *Prober) Health(id string) (plan.Health, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.runs[id]
	if !ok {
		return plan.Health{}, false
	}
	return r.health, true
}

// Calm ends the startup and liveness probes of a pod that is being stopped; readiness goes on to the end.
func (p *Prober) Calm(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.runs {
		if r.uid == uid {
			r.calm()
		}
	}
}

// Keep stops the probes of all instances of the pod but the given ones.
func (p *Prober) Keep(uid types.UID, ids map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, r := range p.runs {
		if r.uid == uid && !ids[id] {
			r.cancel()
			delete(p.runs, id)
		}
	}
}

// Run waits for ctx and then ends all probes.
func (p *Prober) Run(ctx context.Context) error {
	<-ctx.Done()
	p.mu.Lock()
	for _, r := range p.runs {
		r.cancel()
	}
	p.mu.Unlock()
	p.ended.Wait()
	return nil
}

// follow runs the startup probe to its end, then the other two side by side. Those that can end the container run
// under vital.
func (p *Prober) follow(ctx, vital context.Context, t Target, r *run) {
	c := t.Container
	if c.StartupProbe != nil && !t.WasStarted {
		ok := p.loop(vital, t, "Startup", c.StartupProbe, func(good bool) bool {
			if good {
				p.update(r, func(h *plan.Health) { h.Started, h.Ready = true, c.ReadinessProbe == nil })
				return false
			}
			p.update(r, func(h *plan.Health) { h.StartupFailed = true })
			return true
		}, unknown)
		if !ok {
			return
		}
	}
	var wg sync.WaitGroup
	if c.ReadinessProbe != nil {
		first := bad
		if t.WasReady {
			first = good
		}
		wg.Go(func() {
			p.loop(ctx, t, "Readiness", c.ReadinessProbe, func(good bool) bool {
				p.update(r, func(h *plan.Health) { h.Ready = good })
				return true
			}, first)
		})
	}
	if c.LivenessProbe != nil {
		wg.Go(func() {
			p.loop(vital, t, "Liveness", c.LivenessProbe, func(good bool) bool {
				p.update(r, func(h *plan.Health) { h.NotLive = !good })
				return true
			}, good)
		})
	}
	wg.Wait()
}

func (p *Prober) update(r *run, change func(*plan.Health)) {
	p.mu.Lock()
	before := r.health
	change(&r.health)
	same := before == r.health
	p.mu.Unlock()
	if !same {
		p.changed(r.uid)
	}
}

// verdict is what a probe has established so far.
type verdict int

const (
	unknown verdict = iota
	good
	bad
)

// loop probes at the probe's pace and calls decide when the verdict changes: after successThreshold successes or
// failureThreshold failures in a row. It ends, with true, when decide returns false; with false when ctx ends.
func (p *Prober) loop(ctx context.Context, t Target, kind string, spec *corev1.Probe, decide func(good bool) bool, now verdict) bool {
	period := max(seconds(spec.PeriodSeconds, 10), time.Second)
	first := t.StartedAt.Add(seconds(spec.InitialDelaySeconds, 0))
	timer := time.NewTimer(max(time.Until(first), 0))
	defer timer.Stop()
	successes, failures := int32(0), int32(0)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
		timer.Reset(period)
		ok := p.once(ctx, t, kind, spec)
		if ctx.Err() != nil {
			return false
		}
		if ok {
			successes, failures = successes+1, 0
		} else {
			successes, failures = 0, failures+1
		}
		next := now
		switch {
		case successes >= max(spec.SuccessThreshold, 1):
			next = good
		case failures >= threshold(spec.FailureThreshold):
			next = bad
		}
		if next == now {
			continue
		}
		now = next
		if !decide(now == good) {
			return true
		}
	}
}

func threshold(n int32) int32 {
	if n <= 0 {
		return 3
	}
	return n
}

func seconds(n, otherwise int32) time.Duration {
	if n <= 0 {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

// once probes once and reports a failure to the user.
func (p *Prober) once(ctx context.Context, t Target, kind string, spec *corev1.Probe) bool {
	timeout := seconds(spec.TimeoutSeconds, 1)
	probing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := p.check(probing, t, spec, timeout)
	if ctx.Err() != nil {
		return false
	}
	switch {
	case r.err != nil:
		p.note(t.Pod, t.Container, corev1.EventTypeWarning, "Unhealthy", "%s probe errored and resulted in unknown state: %v", kind, r.err)
	case r.warning != "":
		p.note(t.Pod, t.Container, corev1.EventTypeWarning, "ProbeWarning", "%s probe warning: %s", kind, r.warning)
	case !r.ok:
		p.note(t.Pod, t.Container, corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", kind, r.output)
	}
	return r.ok
}

// result of one probe. err means that it could not be carried out at all.
type result struct {
	ok      bool
	output  string
	warning string
	err     error
}

func failed(format string, args ...any) result { return result{output: fmt.Sprintf(format, args...)} }
