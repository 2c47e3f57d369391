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
	"hardway/scheduler/framework"
	"hardway/scheduler/queue"
	"hardway/scheduler/snapshot"
	"hardway/shared/client"
)

// unfinished selects the pods that take or want a node.
const unfinished = "status.phase!=Succeeded,status.phase!=Failed"

// loop owns the cluster and the queue: one goroutine changes them, between decisions. Everybody else posts what is to
// be done to its mailbox.
type loop struct {
	cluster *snapshot.Cluster
	queue   *queue.Queue
	cycles  map[string]*cycle.Cycle // by scheduler name
	binder  *bind.Binder
	metrics *schedulerMetrics
	log     *zap.Logger
	mail    *mailbox

	leading bool // owned by the loop's goroutine
	synced  func() bool
}

func newLoop(profiles []*framework.Profile, cluster *snapshot.Cluster, binder *bind.Binder, o queue.Options, m *schedulerMetrics, log *zap.Logger) *loop {
	l := &loop{
		cluster: cluster, queue: queue.New(profiles, o), cycles: map[string]*cycle.Cycle{},
		binder: binder, metrics: m, log: log, mail: newMailbox(),
	}
	for _, p := range profiles {
		l.cycles[p.Scheduler] = cycle.New(p, nil)
	}
	return l
}

// watch feeds the loop from the API.
func (l *loop) watch(informers *client.Informers) {
	nodes := client.Nodes.Informer(informers, client.Options{})
	pods := client.Pods.Informer(informers, client.Options{FieldSelector: unfinished})
	nodes.OnChange(func(old, now *corev1.Node) {
		l.mail.post(func(t time.Time) { l.nodeChanged(old, now, t) })
	})
	pods.OnChange(func(old, now *corev1.Pod) {
		l.mail.post(func(t time.Time) { l.podChanged(old, now, t) })
	})
	l.synced = func() bool { return nodes.HasSynced() && pods.HasSynced() }
}

// run decides for one pod after the other while this process leads, and keeps the picture of the cluster fresh while it
// does not.
func (l *loop) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer l.mail.close()
	for ctx.Err() == nil {
		now := time.Now()
		for _, f := range l.mail.take() {
			f(now)
		}
		if l.leading {
			if p := l.queue.Pop(now); p != nil {
				l.schedule(ctx, p)
				continue
			}
		}
		l.metrics.pending(l.queue.Counts())
		wait := time.Hour
		if at, ok := l.queue.Next(); ok && l.leading {
			wait = max(0, at.Sub(now))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-l.mail.arrived:
		case <-timer.C:
		}
	}
	l.binder.Wait()
	return nil
}

// lead lets the loop decide until ctx ends and what it decided is carried out.
func (l *loop) lead(ctx context.Context) error {
	l.mail.post(func(time.Time) { l.leading = true })
	<-ctx.Done()
	stopped := make(chan struct{})
	if l.mail.post(func(time.Time) { l.leading = false; close(stopped) }) {
		<-stopped
	}
	l.binder.Wait()
	return nil
}

func (l *loop) nodeChanged(old, now *corev1.Node, t time.Time) {
	if now == nil {
		l.cluster.RemoveNode(old.Name)
		return
	}
	row, added, changed := l.cluster.SetNode(now)
	switch {
	case added:
		l.queue.Changed(framework.Change{What: framework.NodeAdded, Node: row}, t)
	case changed:
		l.queue.Changed(framework.Change{What: framework.NodeChanged, Node: row}, t)
	}
}

func (l *loop) podChanged(old, now *corev1.Pod, t time.Time) {
	switch {
	case now == nil:
		l.podGone(old, t)
	case now.Spec.NodeName != "":
		if old != nil && old.Spec.NodeName != "" && old.Generation == now.Generation {
			return // on its node as before; only its status moves
		}
		l.cluster.SetPod(framework.NewPod(now, l.cluster.Columns))
		l.queue.Remove(now.UID)
	case now.DeletionTimestamp != nil:
		l.queue.Remove(now.UID)
	case l.cluster.Has(now.UID):
		// Its binding is under way or done; this is from before.
	default:
		if gate := l.queue.Set(framework.NewPod(now, l.cluster.Columns), t); gate != nil && l.leading {
			l.binder.Explain(context.Background(), now, corev1.PodReasonSchedulingGated, "", gate.Reason)
		}
	}
}

func (l *loop) podGone(old *corev1.Pod, t time.Time) {
	l.queue.Remove(old.UID)
	if pod := l.cluster.RemovePod(old.UID); pod != nil {
		l.queue.Changed(framework.Change{What: framework.PodGone, Pod: pod}, t)
	}
}

// schedule tries one pod.
func (l *loop) schedule(ctx context.Context, p *framework.Queued) {
	began := time.Now()
	profile := l.queue.Profile(p.Pod.Pod)
	decision, err := l.cycles[profile.Scheduler].Decide(l.cluster.Rows(), p.Pod)
	l.metrics.decided(began)
	if err != nil {
		l.refused(ctx, p, profile, err, began)
		return
	}
	l.log.Debug("decided", zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.String("node", decision.Node),
		zap.Int("feasible", decision.Feasible), zap.Int("checked", decision.Checked))
	l.cluster.Assume(p.Pod, decision.Node)
	// The queue's entry may change while the binding is under way, so keep what it was.
	pod, since, attempts := p.Pod, p.Since, p.Attempts
	l.binder.Bind(ctx, profile.Bind, pod, decision.Node, func(err error) {
		l.mail.deliver(func(t time.Time) { l.bound(ctx, pod, profile, err, began, since, attempts, t) })
	})
}

// bound takes note of what came of a binding.
func (l *loop) bound(ctx context.Context, pod *framework.Pod, profile *framework.Profile, err error, began, since time.Time, attempts int, now time.Time) {
	if err == nil {
		l.queue.Remove(pod.UID)
		l.metrics.bound(profile.Scheduler, began, since, attempts)
		return
	}
	l.metrics.attempt("error", profile.Scheduler, began)
	l.cluster.Forget(pod.UID)
	l.queue.Fail(pod.UID, nil, now)
	if !apierrors.IsNotFound(err) && !errors.Is(err, context.Canceled) {
		l.binder.Explain(ctx, pod.Pod, corev1.PodReasonSchedulerError, "FailedScheduling", "binding rejected: "+err.Error())
	}
}

func (l *loop) refused(ctx context.Context, p *framework.Queued, profile *framework.Profile, err error, began time.Time) {
	var r *cycle.Refusal
	if !errors.As(err, &r) { // Decide returns nothing else
		panic(err)
	}
	now := time.Now()
	reason, result, refusedBy := corev1.PodReasonUnschedulable, "unschedulable", r.Plugins
	if r.Failed {
		reason, result, refusedBy = corev1.PodReasonSchedulerError, "error", nil
	}
	l.metrics.attempt(result, profile.Scheduler, began)
	message := r.Error()
	if l.cluster.Nodes() == 0 {
		message = "no nodes available to schedule pods"
		refusedBy = slices.Collect(maps.Keys(profile.Wakes)) // the first node that one of them likes will do
	}
	l.binder.Explain(ctx, p.Pod.Pod, reason, "FailedScheduling", message)
	l.queue.Fail(p.UID, refusedBy, now)
}
