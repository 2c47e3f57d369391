package server

import (
	"context"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"hardway/scheduler/bind"
	"hardway/scheduler/cycle"
	"hardway/scheduler/extender"
	"hardway/scheduler/framework"
	"hardway/scheduler/queue"
	"hardway/scheduler/snapshot"
)

// loop owns the cluster and the queue: one goroutine changes them, between decisions. Everybody else posts what is to
// be done to its mailbox.
type loop struct {
	cluster   *snapshot.Cluster
	queue     *queue.Queue
	cycles    map[string]*cycle.Cycle // by scheduler name
	binder    *bind.Binder
	extenders []*extender.Extender
	metrics   *schedulerMetrics
	log       *zap.Logger
	mail      *mailbox
	trace     trace

	leading bool            // owned by the loop's goroutine
	lease   context.Context // of the time that this process leads; owned likewise
	synced  func() bool
}

func newLoop(profiles []*framework.Profile, cluster *snapshot.Cluster, binder *bind.Binder, o queue.Options, m *schedulerMetrics, log *zap.Logger) *loop {
	l := &loop{
		cluster: cluster, queue: queue.New(profiles, o), cycles: map[string]*cycle.Cycle{},
		binder: binder, metrics: m, log: log, mail: newMailbox(),
	}
	for _, p := range profiles {
		of := cycle.New(p, cluster, nil)
		of.Step = l.trace.step
		l.cycles[p.Scheduler] = of
	}
	return l
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
	l.mail.post(func(time.Time) { l.leading, l.lease = true, ctx })
	<-ctx.Done()
	stopped := make(chan struct{})
	if l.mail.post(func(time.Time) { l.leading = false; close(stopped) }) {
		<-stopped
	}
	l.binder.Wait()
	return nil
}

// changed lets the pods that wait know of something.
func (l *loop) changed(c framework.Change, now time.Time) {
	if l.queue.Heeds(c.What) {
		began := time.Now()
		l.queue.Changed(c, now)
		l.metrics.events.WithLabelValues(c.What.String()).Observe(time.Since(began).Seconds())
	}
}

func (l *loop) nodeChanged(_, now *corev1.Node, t time.Time) {
	row, was, changed := l.cluster.SetNode(now)
	switch {
	case was == nil:
		l.changed(framework.Change{What: framework.NodeAdded, Node: row}, t)
	case changed:
		l.changed(framework.Change{What: framework.NodeChanged, Node: row, OldNode: was}, t)
	}
}

func (l *loop) podChanged(old, now *corev1.Pod, t time.Time) {
	switch {
	case now == nil:
		l.podGone(old, t)
	case now.Spec.NodeName != "":
		l.podOnNode(now, t)
	case l.queue.Profile(now) == nil:
		// Another scheduler's.
	case now.DeletionTimestamp != nil:
		l.podGone(now, t)
	case l.cluster.Has(now.UID):
		// Its binding is under way or done; this is from before.
	default:
		l.podPending(old, now, t)
	}
}

func (l *loop) podOnNode(pod *corev1.Pod, t time.Time) {
	now, old := l.cluster.SetPod(pod)
	l.queue.Remove(pod.UID)
	l.promise(now, "", t)
	row := l.cluster.Node(pod.Spec.NodeName)
	switch {
	case old == nil:
		l.changed(framework.Change{What: framework.PodPlaced, Pod: now, Node: row}, t)
	case !framework.Alike(old.Pod, pod):
		l.changed(framework.Change{What: framework.PodChanged, Pod: now, OldPod: old, Node: row}, t)
	}
}

func (l *loop) podPending(old, now *corev1.Pod, t time.Time) {
	pod := framework.NewPod(now, l.cluster.Columns)
	switch nominated := now.Status.NominatedNodeName; {
	case nominated != "":
		l.cluster.Promise(pod, nominated)
	case old != nil && old.Status.NominatedNodeName != "":
		l.promise(pod, "", t)
	}
	if gate := l.queue.Set(pod, t); gate != nil && gate.Plugin == "SchedulingGates" && l.leading {
		l.binder.Explain(context.Background(), now, bind.Why{Reason: corev1.PodReasonSchedulingGated, Message: gate.Reason})
	}
}

// promise changes which node a pod is promised. Others may be waiting for one that is free again.
func (l *loop) promise(pod *framework.Pod, node string, t time.Time) {
	was := l.cluster.Promised(pod.UID)
	if was == node {
		return
	}
	l.cluster.Promise(pod, node)
	if row := l.cluster.Node(was); row != nil {
		l.changed(framework.Change{What: framework.PodGone, Pod: pod, Node: row}, t)
	}
}

func (l *loop) podGone(old *corev1.Pod, t time.Time) {
	l.queue.Remove(old.UID)
	var row *framework.Node
	pod := l.cluster.RemovePod(old.UID)
	if pod == nil {
		if l.cluster.Promised(old.UID) != "" {
			l.promise(framework.NewPod(old, l.cluster.Columns), "", t)
		}
		return
	}
	if row = l.cluster.Node(pod.Spec.NodeName); row == nil {
		row = &framework.Node{Name: pod.Spec.NodeName}
	}
	l.changed(framework.Change{What: framework.PodGone, Pod: pod, Node: row}, t)
}
