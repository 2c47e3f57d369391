package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/scheduler/bind"
	"hardway/scheduler/cycle"
	"hardway/scheduler/extender"
	"hardway/scheduler/framework"
)

// attempt is one try of a pod. The queue's entry may change while a binding is under way, so what it was is kept here.
type attempt struct {
	pod      *framework.Pod
	profile  *framework.Profile
	began    time.Time
	since    time.Time
	attempts int
	flushed  bool // nothing but time had woken it
}

// schedule tries one pod.
func (l *loop) schedule(ctx context.Context, p *framework.Queued) {
	a := attempt{pod: p.Pod, profile: l.queue.Profile(p.Pod.Pod), began: time.Now(), since: p.Since, attempts: p.Attempts, flushed: p.Flushed}
	l.trace.start(a.began)
	decision, err := l.cycles[a.profile.Scheduler].DecideWith(p.Pod, extender.Ask(ctx, l.extenders, p.Pod))
	l.trace.end(l.log, p.Pod)
	l.metrics.decided(a.profile.Scheduler, a.began, decision.Reused)
	if err != nil {
		l.refused(ctx, a, err)
		return
	}
	node := decision.Node.Name
	if l.log.Core().Enabled(zap.DebugLevel) {
		l.log.Debug("decided", zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.String("node", node),
			zap.Int("feasible", decision.Feasible), zap.Int("checked", decision.Checked))
	}
	for i, r := range a.profile.Reserve {
		state := decision.State(r.Name())
		if state == nil {
			continue
		}
		if no := r.Reserve(l.cluster.View, state, a.pod, decision.Node); no != nil {
			l.unreserve(a, decision.State, node, i)
			l.failed(ctx, a, errors.New(no.Reason), time.Now())
			return
		}
	}
	l.cluster.Assume(a.pod, node)
	l.promise(a.pod, "", a.began)
	l.changed(framework.Change{What: framework.PodPlaced, Pod: a.pod, Node: decision.Node}, a.began)
	task := bind.Task{Pod: a.pod, Node: node, Profile: a.profile, State: decision.State, Decided: a.began}
	l.binder.Bind(l.lease, task, func(err error) {
		l.mail.deliver(func(t time.Time) { l.bound(ctx, a, task, err, t) })
	})
}

// unreserve takes the first n reservations back, the last first.
func (l *loop) unreserve(a attempt, state func(string) any, node string, n int) {
	for i := n - 1; i >= 0; i-- {
		r := a.profile.Reserve[i]
		if of := state(r.Name()); of != nil {
			r.Unreserve(l.cluster.View, of, a.pod, node)
		}
	}
}

// bound takes note of what came of a binding.
func (l *loop) bound(ctx context.Context, a attempt, task bind.Task, err error, now time.Time) {
	if err == nil {
		l.queue.Remove(a.pod.UID)
		l.metrics.bound(a)
		return
	}
	l.unreserve(a, task.State, task.Node, len(a.profile.Reserve))
	if l.cluster.Forget(a.pod.UID) {
		if row := l.cluster.Node(task.Node); row != nil {
			l.changed(framework.Change{What: framework.PodGone, Pod: a.pod, Node: row}, now)
		}
	}
	l.failed(ctx, a, err, now)
}

// failed puts a pod back whose decision could not be carried out.
func (l *loop) failed(ctx context.Context, a attempt, err error, now time.Time) {
	l.metrics.attempt("error", a.profile.Scheduler, a.began)
	l.queue.Fail(a.pod.UID, nil, now)
	if !apierrors.IsNotFound(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, bind.ErrStale) {
		l.binder.Explain(ctx, a.pod.Pod, bind.Why{
			Reason: corev1.PodReasonSchedulerError, Message: "binding rejected: " + err.Error(), Event: "FailedScheduling",
		})
	}
}

// refused looks for a way out for a pod that no node will do for, tells the user why, and puts it back.
func (l *loop) refused(ctx context.Context, a attempt, err error) {
	var r *cycle.Refusal
	if !errors.As(err, &r) { // Decide returns nothing else
		panic(err)
	}
	why := bind.Why{Reason: corev1.PodReasonUnschedulable, Event: "FailedScheduling"}
	result, refusedBy := "unschedulable", r.Plugins
	if r.Failed {
		why.Reason, result, refusedBy = corev1.PodReasonSchedulerError, "error", nil
	} else if r.Nodes > 0 {
		why.Nominated, r.Preemption = l.makeRoom(ctx, a)
	}
	if r.Nodes == 0 {
		refusedBy = slices.Sorted(maps.Keys(a.profile.Wakes)) // the first node that one of them likes will do
	}
	why.Message = r.Error()
	l.metrics.attempt(result, a.profile.Scheduler, a.began)
	l.metrics.refused(a.profile.Scheduler, refusedBy)
	l.binder.Explain(ctx, a.pod.Pod, why)
	l.queue.Fail(a.pod.UID, refusedBy, time.Now())
}

// makeRoom evicts others for a pod, if that helps. It returns the node that the pod is promised from now on (nil: as
// before), and why there is no way.
func (l *loop) makeRoom(ctx context.Context, a attempt) (nominated *string, why string) {
	began := time.Now()
	way, why := l.cycles[a.profile.Scheduler].Evict(a.pod)
	l.metrics.Point("PostFilter", a.profile.Scheduler, began, nil)
	if way == nil {
		return nil, why
	}
	if way.Release != nil {
		l.binder.Release(ctx, way.Release)
		return nil, why
	}
	l.promise(a.pod, way.Node, a.began)
	if way.Node == "" {
		if a.pod.Status.NominatedNodeName == "" {
			return nil, why
		}
		return &way.Node, why
	}
	l.metrics.preempted(len(way.Victims))
	for _, p := range way.Outranked {
		l.promise(p, "", a.began)
	}
	l.binder.Evict(ctx, a.pod, way, func(err error) {
		if err != nil {
			l.log.Warn("eviction failed", zap.String("namespace", a.pod.Namespace), zap.String("name", a.pod.Name), zap.Error(err))
			l.mail.deliver(func(t time.Time) { l.queue.Wake(a.pod.UID, t) })
		}
	})
	return &way.Node, ""
}
