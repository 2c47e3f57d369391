package status

import (
	"context"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

const (
	writers       = 8                      // statuses of this many pods are on their way at once
	progressDelay = 100 * time.Millisecond // a pod that is about to be Ready is worth waiting for
	firstRetry    = 200 * time.Millisecond
	lastRetry     = 10 * time.Second
	writeTimeout  = 10 * time.Second
)

// Patch sends a strategic merge patch to the status of a pod and returns the stored object.
type Patch func(ctx context.Context, namespace, name string, patch []byte) (*corev1.Pod, error)

// Writer stores pod statuses. It holds at most one entry per pod on the node, with the newest status only.
type Writer struct {
	patch  Patch
	stored func(uid types.UID, st corev1.PodStatus)
	log    *zap.Logger

	mu      sync.Mutex // guards all below
	wake    *sync.Cond
	entries map[types.UID]*entry
	urgent  []types.UID
	rest    []types.UID
	closed  bool
}

// entry is one pod's status on its way.
type entry struct {
	pod      *corev1.Pod
	want     corev1.PodStatus
	acked    *corev1.PodStatus // what the API stored last for us
	revision uint64            // resourceVersion of acked
	queued   bool
	busy     bool
	changed  bool // want was replaced while busy
	delay    time.Duration
}

// NewWriter makes a writer; stored is called after every status that it has brought to the API.
func NewWriter(patch Patch, stored func(types.UID, corev1.PodStatus), log *zap.Logger) *Writer {
	w := &Writer{patch: patch, stored: stored, log: log, entries: map[types.UID]*entry{}}
	w.wake = sync.NewCond(&w.mu)
	return w
}

// Run sends statuses until ctx ends.
func (w *Writer) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.closed = true
		w.wake.Broadcast()
	})
	defer stop()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for {
				uid, ok := w.next()
				if !ok {
					return
				}
				w.write(ctx, uid)
			}
		})
	}
	wg.Wait()
	return nil
}

// Submit asks for st to be stored as the status of pod, which is the newest object known. It returns true when the
// API has it already: then nothing is sent, and nothing will be reported.
func (w *Writer) Submit(pod *corev1.Pod, st corev1.PodStatus) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.entries[pod.UID]
	if e == nil {
		e = &entry{}
		w.entries[pod.UID] = e
	}
	e.pod, e.want = pod, st
	if e.busy {
		e.changed = true
		return false
	}
	if e.settled() {
		return true
	}
	switch {
	case urgent(pod, &st):
		w.enqueue(pod.UID, e, true)
	case e.queued:
	case st.Phase == corev1.PodPending && pod.DeletionTimestamp == nil:
		w.later(pod.UID, progressDelay)
	default:
		w.enqueue(pod.UID, e, false)
	}
	return false
}

// Forget drops what is known of a pod.
func (w *Writer) Forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.entries, uid)
}

// urgent statuses change what others do: the pod becomes ready, stops being ready, or has come to its end.
func urgent(pod *corev1.Pod, st *corev1.PodStatus) bool {
	return IsReady(&pod.Status) != IsReady(st) || final(st.Phase) && !final(pod.Status.Phase)
}

// settled says whether the API has the wanted status: either in the object last seen, or acknowledged to us since.
func (e *entry) settled() bool {
	if same(&e.pod.Status, &e.want) {
		return true
	}
	if e.acked == nil || !same(e.acked, &e.want) {
		return false
	}
	seen, err := strconv.ParseUint(e.pod.ResourceVersion, 10, 64)
	return err != nil || seen < e.revision
}

// enqueue puts a pod in line; the caller holds mu. An urgent status overtakes its own queued predecessor.
func (w *Writer) enqueue(uid types.UID, e *entry, first bool) {
	if first {
		w.urgent = append(w.urgent, uid)
	} else {
		w.rest = append(w.rest, uid)
	}
	e.queued = true
	w.wake.Signal()
}

// later puts a pod in line after a while, if it is still of interest then.
func (w *Writer) later(uid types.UID, d time.Duration) {
	time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if e := w.entries[uid]; e != nil && !e.queued && !e.busy && !e.settled() {
			w.enqueue(uid, e, false)
		}
	})
}

// next waits for a pod whose status is to be sent.
func (w *Writer) next() (types.UID, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if w.closed {
			return "", false
		}
		queue := &w.urgent
		if len(*queue) == 0 {
			queue = &w.rest
		}
		if len(*queue) == 0 {
			w.wake.Wait()
			continue
		}
		uid := (*queue)[0]
		*queue = (*queue)[1:]
		e := w.entries[uid]
		if e == nil || e.busy || !e.queued {
			continue
		}
		e.queued, e.busy, e.changed = false, true, false
		return uid, true
	}
}

func (w *Writer) write(ctx context.Context, uid types.UID) {
	w.mu.Lock()
	e := w.entries[uid]
	if e == nil {
		w.mu.Unlock()
		return
	}
	pod, want := e.pod, e.want
	w.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	data, err := patch(uid, &pod.Status, &want)
	var got *corev1.Pod
	if err == nil {
		got, err = w.patch(ctx, pod.Namespace, pod.Name, data)
	}
	w.finish(uid, got, &want, err)
}

// finish notes how a write ended and puts the pod in line again when it failed or has news.
func (w *Writer) finish(uid types.UID, got *corev1.Pod, want *corev1.PodStatus, err error) {
	w.mu.Lock()
	e := w.entries[uid]
	if e == nil {
		w.mu.Unlock()
		return
	}
	e.busy = false
	switch {
	case err == nil:
		e.acked, e.delay = want, 0
		e.revision, _ = strconv.ParseUint(got.ResourceVersion, 10, 64)
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		delete(w.entries, uid) // the pod is gone or is another one; the watch will say so
	default:
		e.delay = min(max(2*e.delay, firstRetry), lastRetry)
		w.log.Warn("status not stored", zap.String("namespace", e.pod.Namespace), zap.String("name", e.pod.Name), zap.Error(err))
		w.later(uid, e.delay)
	}
	if err == nil && e.changed && !e.settled() {
		w.enqueue(uid, e, urgent(&corev1.Pod{Status: *want}, &e.want))
	}
	w.mu.Unlock()
	if err == nil {
		w.stored(uid, *want)
	}
}
