package podworker

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/plan"
	"hardway/nodeagent/podsource/objects"
	"hardway/nodeagent/podworker/resize"
	"hardway/nodeagent/runtime"
	"hardway/nodeagent/status"
)

// lookAgain is how often volumes are looked at that age.
const lookAgain = time.Minute

// observeRetry is the wait after the runtime could not be asked.
const observeRetry = time.Second

// worker is the loop of one pod.
type worker struct {
	*Workers
	uid             types.UID
	namespace, name string
	log             *zap.Logger
	wake            chan struct{} // holds one token

	mu       sync.Mutex // guards what others may ask or change
	pod      *corev1.Pod
	gone     bool
	admitted bool
	over     bool // final: takes no room any more
	inbox    []func()
	granted  *corev1.Pod // pod with the resources that are allocated to it; nil: not decided yet
	deferred bool        // it waits for others to make room
	last     corev1.PodStatus
	seen     *runtime.PodStatus

	// The rest belongs to the loop.
	facts        plan.Facts
	previous     corev1.PodStatus
	final        *corev1.PodStatus
	paths        map[string]string // of volumes
	messages     map[string]string // termination messages by container id
	warned       map[string]bool   // warnings given once
	decided      bool              // admission has been decided
	held         *corev1.Pod       // whose references are acquired
	starting     context.Context   // ends when the pod does
	stopStarting context.CancelFunc
	tasks        sync.WaitGroup
	files        sync.Mutex // one task at a time writes the pod's files
	allocation   *resize.Allocation
	refreshAt    time.Time
	created      time.Time // when the worker began, for the metric
	wasReady     bool
	notedNetwork bool
}

func newWorker(ws *Workers, pod *corev1.Pod) *worker {
	w := &worker{
		Workers: ws, uid: pod.UID, namespace: pod.Namespace, name: pod.Name, pod: pod, wake: make(chan struct{}, 1),
		log: ws.Log.With(zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.String("uid", string(pod.UID))),
		facts: plan.Facts{
			Containers: map[string]*plan.Container{}, Kills: map[string]*plan.Kill{}, Hooks: map[string]plan.Hook{},
			Health: map[string]plan.Health{}, Removing: map[string]bool{},
			Resize: plan.Resize{Enforced: map[string]corev1.ResourceRequirements{}},
		},
		previous: pod.Status, last: pod.Status, messages: map[string]string{}, warned: map[string]bool{},
		created: time.Now(), wasReady: status.IsReady(&pod.Status),
	}
	w.facts.Mounted = ws.Volumes.Exists(pod.UID)
	return w
}

// run is the loop. It returns when nothing of the pod is left, or when ctx ends.
func (w *worker) run(ctx context.Context) {
	w.starting, w.stopStarting = context.WithCancel(ctx)
	defer w.tasks.Wait()
	defer w.stopStarting()
	w.hold()
	defer w.letGo()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		began := time.Now()
		next, done := w.step(ctx)
		w.Metrics.step(began)
		if done {
			w.forget()
			return
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(max(time.Until(next), time.Millisecond))
		}
	}
}

// step does one round and returns when the next one is due.
func (w *worker) step(ctx context.Context) (next time.Time, done bool) {
	pod, gone := w.collect()
	w.holdNew(pod)
	observed, err := w.observe(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.log.Warn("runtime does not answer", zap.Error(err))
		}
		return time.Now().Add(observeRetry), false
	}
	if !w.admission(pod, gone, observed) {
		return time.Time{}, false
	}
	pod = w.allocate(pod)
	w.look(pod, observed)
	w.noteNetwork(pod, gone, observed)
	in := plan.Input{Pod: pod, Gone: gone, Observed: observed, Facts: &w.facts, Settings: w.Settings(), Now: time.Now()}
	p := plan.Next(in)
	if p.Ending && w.facts.Ended.IsZero() {
		w.facts.Ended = in.Now
		w.stopStarting()
		w.Prober.Calm(w.uid)
	}
	w.report(in, p)
	for _, a := range p.Actions {
		w.act(ctx, pod, a)
	}
	next = p.Wake
	if !w.refreshAt.IsZero() && (next.IsZero() || w.refreshAt.Before(next)) {
		next = w.refreshAt
		if !in.Now.Before(w.refreshAt) {
			w.refreshAt = in.Now.Add(lookAgain)
			w.refresh()
		}
	}
	return next, p.Done
}

// noteNetwork tells the user, once, why a pod does not start on a node that is not ready.
func (w *worker) noteNetwork(pod *corev1.Pod, gone bool, observed *runtime.PodStatus) {
	if w.notedNetwork || gone || observed != nil || pod.Spec.HostNetwork || w.Settings().NetworkReady || !w.facts.Ended.IsZero() {
		return
	}
	w.notedNetwork = true
	w.Note(pod, nil, corev1.EventTypeWarning, "NetworkNotReady", "network is not ready: the node has no addresses for pods yet")
}

// collect applies the results that have come in and returns the pod as it is wanted now.
func (w *worker) collect() (*corev1.Pod, bool) {
	w.mu.Lock()
	inbox := w.inbox
	w.inbox = nil
	pod, gone := w.pod, w.gone
	w.mu.Unlock()
	for _, f := range inbox {
		f()
	}
	return pod, gone
}

// observe reads what there is of the pod. A sandbox that is being made is not there yet; one that is being taken down
// is there until that is done.
func (w *worker) observe(ctx context.Context) (*runtime.PodStatus, error) {
	switch {
	case w.facts.Sandbox.Busy:
		return nil, nil
	case w.facts.Cleanup.Busy:
		return w.seen, nil
	}
	st, ok, err := w.Runtime.Pod(ctx, w.uid)
	if err != nil {
		return nil, err
	}
	var out *runtime.PodStatus
	if ok {
		out = &st
	}
	w.mu.Lock()
	w.seen = out
	w.mu.Unlock()
	return out, nil
}

// admission decides once whether the pod may run here. It says whether that has been decided.
func (w *worker) admission(pod *corev1.Pod, gone bool, observed *runtime.PodStatus) bool {
	if w.decided || gone {
		return true
	}
	phase := pod.Status.Phase
	if pod.DeletionTimestamp != nil || phase == corev1.PodSucceeded || phase == corev1.PodFailed {
		w.decided = true
		return true
	}
	failure, known := w.admit(w, pod, observed != nil || phase == corev1.PodRunning || pod.Status.StartTime != nil)
	if !known {
		return false
	}
	w.decided = true
	if failure != nil {
		w.Note(pod, nil, corev1.EventTypeWarning, failure.Reason, "%s", failure.Message)
		w.facts.Failure = &plan.Failure{Reason: failure.Reason, Message: "Pod was rejected: " + failure.Message}
	}
	return true
}

// report computes the status and hands it to the writer.
func (w *worker) report(in plan.Input, p plan.Plan) {
	st := status.Compute(status.Input{
		Pod: in.Pod, Previous: w.previous, Observed: in.Observed, Facts: &w.facts, Waiting: p.Waiting, Terminal: p.Terminal,
		HostIPs: w.HostIPs, Image: w.imageID, Message: w.message(in.Pod), Now: in.Now,
	})
	w.previous = st
	w.mu.Lock()
	w.last = st
	was := w.over
	w.over = st.Phase == corev1.PodSucceeded || st.Phase == corev1.PodFailed
	now := w.over
	w.mu.Unlock()
	if now && !was {
		w.roomMade()
	}
	if in.Gone {
		return
	}
	if !w.wasReady && status.IsReady(&st) {
		w.wasReady = true
		w.Metrics.started(time.Since(in.Pod.CreationTimestamp.Time))
		w.log.Info("pod ready", zap.Duration("after", time.Since(w.created)))
	}
	if p.Terminal {
		w.final = &st
	}
	if w.Status.Submit(in.Pod, st) {
		w.stored(st)
	}
}

// stored notes that a status is in the API; the final one opens the way for cleaning up.
func (w *worker) stored(st corev1.PodStatus) {
	if w.final != nil && !w.facts.Reported && apiequality.Semantic.DeepEqual(st, *w.final) {
		w.facts.Reported = true
		w.poke()
	}
}

func (w *worker) imageID(id string) string {
	img, ok := w.Image(id)
	switch {
	case !ok:
		return ""
	case img.Digest != "":
		return img.Digest
	default:
		return img.ID
	}
}

// task runs f beside the loop; the function that it returns is applied by the loop. The task must return soon after
// ctx ends.
func (w *worker) task(ctx context.Context, f func(ctx context.Context) func()) {
	w.tasks.Go(func() {
		if apply := f(ctx); apply != nil {
			w.post(apply)
		}
	})
}

// post hands a result to the loop. There is at most one per task and per status write under way.
func (w *worker) post(f func()) {
	w.mu.Lock()
	w.inbox = append(w.inbox, f)
	w.mu.Unlock()
	w.poke()
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	old := w.pod
	w.pod = pod
	w.mu.Unlock()
	if !maps.Equal(old.Labels, pod.Labels) || !maps.Equal(old.Annotations, pod.Annotations) {
		w.post(w.refresh) // the downward API shows them
		return
	}
	w.poke()
}

func (w *worker) remove() {
	w.mu.Lock()
	w.gone = true
	w.mu.Unlock()
	w.poke()
}

func (w *worker) isGone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}

// counts returns the pod and whether it takes up room on the node.
func (w *worker) counts() (*corev1.Pod, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.granted != nil {
		return w.granted, w.admitted && !w.over
	}
	return w.pod, w.admitted && !w.over
}

func (w *worker) setAdmitted() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.admitted = true
}

func (w *worker) snapshot() Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Pod{w.pod, w.last, w.seen}
}

// hold acquires the objects that the pod refers to.
func (w *worker) hold() {
	pod, gone := w.collect()
	if gone {
		return
	}
	w.held = pod
	w.Objects.Acquire(w.held)
	if slices.ContainsFunc(w.held.Spec.Volumes, ages) {
		w.refreshAt = time.Now().Add(lookAgain)
	}
}

// ages says whether a volume may change without anybody telling: tokens grow old, claims grow, and some CSI drivers want
// to be asked now and then.
func ages(v corev1.Volume) bool {
	if v.CSI != nil || v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
		return true
	}
	return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil })
}

// holdNew acquires what a changed pod refers to beyond what it did: ephemeral containers come later.
func (w *worker) holdNew(pod *corev1.Pod) {
	if w.held == nil || len(pod.Spec.EphemeralContainers) == len(w.held.Spec.EphemeralContainers) {
		return
	}
	w.Objects.Acquire(pod)
	w.Objects.Release(w.held)
	w.held = pod
}

func (w *worker) letGo() {
	if w.held != nil {
		w.Objects.Release(w.held)
	}
}

func (w *worker) refersTo(k objects.Key) bool {
	if k.Namespace != w.namespace {
		return false
	}
	w.mu.Lock()
	pod := w.pod
	w.mu.Unlock()
	configMaps, secrets := objects.References(pod)
	return slices.Contains(configMaps, k) || slices.Contains(secrets, k)
}

// forget drops the last traces of the pod.
func (w *worker) forget() {
	w.Status.Forget(w.uid)
	w.Puller.Forget(w.uid)
	w.Prober.Keep(w.uid, nil)
	if err := w.removeFiles(); err != nil {
		w.log.Warn("files of the pod are left behind", zap.Error(err))
	}
	w.log.Info("pod gone")
}
