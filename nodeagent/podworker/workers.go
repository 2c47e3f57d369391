// Package podworker runs one loop for every pod of the node: observe, plan, report, act.
//
//	podsource ──▶ Workers ──▶ worker (one goroutine per pod)
//	runtime events ─┘            observe ─▶ plan.Next ─▶ status.Compute ─▶ actions
//	probes, objects ─┘              ▲                                         │
//	                                └───────── results of finished tasks ◀────┘
//
// A loop never blocks: whatever takes time (pulling, starting, hooks, mounting) runs as a task beside it and hands its
// result back as a function that the loop applies, so a worker's facts have one owner and need no lock. There is no
// polling: a worker sleeps until its pod changes, its containers do, a task ends, or the plan's next date comes.
//
// Everything in memory can be lost: a restarted agent finds the running pods through the runtime and goes on.
package podworker

import (
	"context"
	"errors"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/device"
	"hardway/nodeagent/plan"
	"hardway/nodeagent/podsource/objects"
	"hardway/nodeagent/podsource/static"
	"hardway/nodeagent/podworker/admit"
	"hardway/nodeagent/podworker/compose"
	"hardway/nodeagent/podworker/pull"
	"hardway/nodeagent/podworker/resize"
	"hardway/nodeagent/probe"
	"hardway/nodeagent/runtime"
	"hardway/nodeagent/status"
	"hardway/nodeagent/volume"
)

// Runtime is what the workers need of the container runtime.
type Runtime interface {
	Pod(ctx context.Context, uid types.UID) (runtime.PodStatus, bool, error)
	EnsurePod(ctx context.Context, c runtime.PodConfig) (runtime.PodStatus, error)
	StartContainer(ctx context.Context, uid types.UID, c runtime.ContainerConfig) (runtime.Status, error)
	SignalContainer(ctx context.Context, uid types.UID, id string, sig syscall.Signal) error
	RemoveContainer(ctx context.Context, uid types.UID, id string) error
	ResizeContainer(ctx context.Context, uid types.UID, id string, r runtime.Resources) error
	ResizePod(ctx context.Context, uid types.UID, r runtime.Resources) error
	RemovePod(ctx context.Context, uid types.UID) error
}

// Note tells the user something about a pod, or about one of its containers.
type Note func(pod *corev1.Pod, c *corev1.Container, eventtype, reason, format string, args ...any)

// Deps is what workers work with. All of it is shared by all workers.
type Deps struct {
	Runtime Runtime
	Exec    func(ctx context.Context, uid types.UID, id string, cmd []string, out io.Writer) (int, error)
	Volumes *volume.Set
	Devices *device.Plugins
	Objects *objects.Set
	Puller  *pull.Puller
	Image   func(id string) (pull.Image, bool) // of the node, by id
	Prober  *probe.Prober
	Status  *status.Writer
	Delete  func(ctx context.Context, pod *corev1.Pod) error // from the API, at once, this uid only
	Note    Note

	HostIPs []string
	Node    func() compose.Node
	Object  func() *corev1.Node // nil until the node is registered
	// Handler is the handler that a RuntimeClass names.
	Handler  func(ctx context.Context, runtimeClass string) (string, error)
	Services func(namespace string) iter.Seq[*corev1.Service]
	Settings func() plan.Settings

	Pressure func() map[corev1.NodeConditionType]bool // what the node is short of

	UnsafeSysctls []string
	LinksDir      string // such as /var/log/containers
	Log           *zap.Logger
	Metrics       *Metrics
	Starts        int // sandboxes and containers being started at once; further ones wait
}

// Workers holds the workers of the node: one for every pod that is assigned to it or still has something here.
type Workers struct {
	Deps
	starts chan struct{}

	mu      sync.Mutex // guards all below
	all     map[types.UID]*worker
	ctx     context.Context // set by Run
	waiting []*worker       // added before Run
	ended   sync.WaitGroup
}

// New returns an empty set of workers.
func New(d Deps) *Workers {
	return &Workers{Deps: d, starts: make(chan struct{}, d.Starts), all: map[types.UID]*worker{}}
}

// Run runs the workers until ctx ends. Containers go on running after that.
func (ws *Workers) Run(ctx context.Context) error {
	ws.mu.Lock()
	ws.ctx = ctx
	for _, w := range ws.waiting {
		ws.start(w)
	}
	ws.waiting = nil
	ws.mu.Unlock()
	<-ctx.Done()
	ws.ended.Wait()
	return nil
}

// start needs ws.mu.
func (ws *Workers) start(w *worker) {
	ctx := ws.ctx
	ws.ended.Go(func() {
		w.run(ctx)
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if ctx.Err() == nil {
			delete(ws.all, w.uid)
			go ws.roomMade()
		}
	})
}

// roomMade lets pods try again that wait for resources of others.
func (ws *Workers) roomMade() {
	for _, w := range ws.list() {
		w.mu.Lock()
		deferred := w.deferred
		w.mu.Unlock()
		if deferred {
			w.poke()
		}
	}
}

// Update hands over the newest object of a pod.
func (ws *Workers) Update(pod *corev1.Pod) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.all[pod.UID]
	if w == nil {
		ws.add(newWorker(ws, pod))
		return
	}
	w.update(pod)
}

// add needs ws.mu.
func (ws *Workers) add(w *worker) {
	ws.all[w.uid] = w
	if ws.ctx == nil {
		ws.waiting = append(ws.waiting, w)
	} else {
		ws.start(w)
	}
}

// Remove says that a pod is no longer in the API.
func (ws *Workers) Remove(uid types.UID) {
	if w := ws.get(uid); w != nil {
		w.remove()
	}
}

// Adopt takes over what is left on the node of a pod that the API does not know: it is stopped and cleaned away.
func (ws *Workers) Adopt(found runtime.PodStatus) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.all[found.Config.UID] != nil {
		return
	}
	w := newWorker(ws, orphan(found))
	w.gone = true
	ws.add(w)
}

// orphan stands in for a pod of which only the runtime knows.
func orphan(found runtime.PodStatus) *corev1.Pod {
	c := found.Config
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: c.UID, Namespace: c.Namespace, Name: c.Name}}
	pod.Spec.HostNetwork = c.HostNetwork
	for _, s := range found.Containers {
		if !slices.ContainsFunc(pod.Spec.Containers, func(have corev1.Container) bool { return have.Name == s.Name }) {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: s.Name})
		}
	}
	return pod
}

// Sweep takes over what a pod left on disk that neither the API nor the runtime knows of any more, as after a reboot: its
// volumes are taken down and its files removed, at its own pace, for there may be a volume that cannot be taken down now.
func (ws *Workers) Sweep(context.Context) error {
	uids, err := ws.Volumes.Orphans()
	for _, uid := range uids {
		if ws.Known(uid) {
			continue
		}
		ws.Log.Info("files of a pod that is gone are removed", zap.String("uid", string(uid)))
		left := runtime.PodStatus{Config: runtime.PodConfig{UID: uid}}
		left.Config.Namespace, left.Config.Name = ws.fromLogs(uid)
		ws.Adopt(left)
	}
	for _, uid := range ws.Devices.Pods() {
		if !ws.Known(uid) {
			err = errors.Join(err, ws.Devices.Release(uid))
		}
	}
	return err
}

// fromLogs finds out what a pod was called by the name of the folder with its logs.
func (ws *Workers) fromLogs(uid types.UID) (namespace, name string) {
	dirs, err := filepath.Glob(filepath.Join(ws.Node().LogDir, "*_*_"+string(uid)))
	if err != nil || len(dirs) != 1 {
		return "", ""
	}
	parts := strings.Split(filepath.Base(dirs[0]), "_")
	return parts[0], parts[1]
}

// MountAgain lets pods try at once that wait for volumes, or to get rid of them.
func (ws *Workers) MountAgain() {
	for _, w := range ws.list() {
		w.post(func() {
			if v := &w.facts.Volumes; !v.Done {
				v.Retry = time.Time{}
			}
			w.facts.Cleanup.Retry = time.Time{}
		})
	}
}

// Known says whether the pod has a worker.
func (ws *Workers) Known(uid types.UID) bool { return ws.get(uid) != nil }

// Wake lets a worker look again, because something about its containers has changed.
func (ws *Workers) Wake(uid types.UID) {
	if w := ws.get(uid); w != nil {
		w.poke()
	}
}

// WakeAll lets every worker look again.
func (ws *Workers) WakeAll() {
	for _, w := range ws.list() {
		w.poke()
	}
}

// Stored takes the news that a status has reached the API.
func (ws *Workers) Stored(uid types.UID, st corev1.PodStatus) {
	if w := ws.get(uid); w != nil {
		w.post(func() { w.stored(st) })
	}
}

// ObjectChanged tells the workers whose pods refer to a ConfigMap or Secret that it has changed.
func (ws *Workers) ObjectChanged(k objects.Key) {
	for _, w := range ws.list() {
		if w.refersTo(k) {
			w.post(w.refresh)
		}
	}
}

// Evict ends a pod on the node's own decision: it fails with reason and message. grace bounds how long it may take; 0
// leaves that to the pod.
func (ws *Workers) Evict(uid types.UID, reason, message string, grace time.Duration) {
	w := ws.get(uid)
	if w == nil {
		return
	}
	w.post(func() {
		if w.facts.Failure != nil || !w.facts.Ended.IsZero() {
			return
		}
		w.log.Info("pod is ended by its node", zap.String("reason", reason), zap.String("message", message))
		w.facts.Failure = &plan.Failure{Reason: reason, Message: message}
		w.facts.EndGrace = grace
	})
}

// Pod is a pod of this node as its worker sees it.
type Pod struct {
	*corev1.Pod
	Status   corev1.PodStatus // the newest computed one, ahead of the API's
	Observed *runtime.PodStatus
}

// Pods returns all pods that have a worker.
func (ws *Workers) Pods() []Pod {
	var out []Pod
	for _, w := range ws.list() {
		out = append(out, w.snapshot())
	}
	return out
}

// ByName returns the pod of that name which is in the API, else one that is on its way out.
func (ws *Workers) ByName(namespace, name string) (Pod, bool) {
	var last *worker
	for _, w := range ws.list() {
		if w.namespace == namespace && w.name == name {
			if last = w; !w.isGone() {
				break
			}
		}
	}
	if last == nil {
		return Pod{}, false
	}
	return last.snapshot(), true
}

func (ws *Workers) get(uid types.UID) *worker {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.all[uid]
}

func (ws *Workers) list() []*worker {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	out := make([]*worker, 0, len(ws.all))
	for _, w := range ws.all {
		out = append(out, w)
	}
	return out
}

// admit decides whether a pod may run here, against the pods admitted before it. Pods that ran already are in.
func (ws *Workers) admit(w *worker, pod *corev1.Pod, running bool) (*plan.Failure, bool) {
	object := ws.Object()
	if object == nil && !running {
		if pod.Annotations[static.Source] != "file" {
			return nil, false
		}
		running = true // a static pod may be what the apiserver waits for
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if !running {
		if f := admit.Check(pod, ws.room(w, object)); f != nil {
			return f, true
		}
	}
	w.setAdmitted()
	return nil, true
}

// room is the node with all pods but w's. The caller holds ws.mu.
func (ws *Workers) room(w *worker, object *corev1.Node) admit.Node {
	n := admit.Node{Object: object, UnsafeSysctls: ws.UnsafeSysctls, Pressure: ws.Pressure()}
	for _, o := range ws.all {
		if p, counts := o.counts(); counts && o != w {
			n.Pods = append(n.Pods, p)
		}
	}
	return n
}

// grant decides whether a pod that runs may have other resources than it has, and takes note of it if so.
func (ws *Workers) grant(w *worker, pod *corev1.Pod) *plan.Failure {
	object := ws.Object()
	if object == nil {
		return &plan.Failure{Reason: corev1.PodReasonDeferred, Message: "the node's own object is not known yet"}
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	f := resize.Decide(pod, ws.room(w, object))
	w.mu.Lock()
	defer w.mu.Unlock()
	if f == nil {
		w.granted = pod
	}
	w.deferred = f != nil && f.Reason == corev1.PodReasonDeferred
	return f
}

// slot waits for a place among the starts under way.
func (ws *Workers) slot(ctx context.Context) (release func(), err error) {
	select {
	case ws.starts <- struct{}{}:
		return func() { <-ws.starts }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// backOff is the delay before something is tried for the n-th time again: 500 ms doubling to a minute.
func backOff(failures int) time.Duration {
	d := 500 * time.Millisecond
	for range min(failures-1, 10) {
		d *= 2
	}
	return min(d, time.Minute)
}
