// Package podsource says which pods are wanted on this node: those in the API that are bound to it.
//
// It works on levels, not edges: a change marks a name as dirty, and the loop compares what the informer has under
// that name with what was handed on before. A pod that was deleted and made again under its name is a removal and an
// update. Nothing is handed on before the first list is complete, and then pods that run already come first, so that
// they are not measured against newcomers.
package podsource

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/podsource/static"
)

// Workers take what is wanted.
type Workers interface {
	Update(pod *corev1.Pod)
	Remove(uid types.UID)
}

// Informer is the watch of this node's pods.
type Informer interface {
	Get(namespace, name string) (*corev1.Pod, bool)
	All() iter.Seq[*corev1.Pod]
	OnChange(f func(old, now *corev1.Pod))
}

// Source hands pods on. At most one entry is held per pod.
type Source struct {
	informer Informer
	workers  Workers
	wake     chan struct{}

	mu    sync.Mutex // guards dirty
	dirty map[types.NamespacedName]bool
	known map[types.NamespacedName]types.UID // what was handed on; Run's own
}

// New returns a source.
func New(informer Informer, workers Workers) *Source {
	s := &Source{
		informer: informer, workers: workers, wake: make(chan struct{}, 1),
		dirty: map[types.NamespacedName]bool{}, known: map[types.NamespacedName]types.UID{},
	}
	informer.OnChange(func(old, now *corev1.Pod) {
		if now == nil {
			now = old
		}
		s.mark(types.NamespacedName{Namespace: now.Namespace, Name: now.Name})
	})
	return s
}

func (s *Source) mark(n types.NamespacedName) {
	s.mu.Lock()
	s.dirty[n] = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Begin hands on all pods of the first list. The informer must have synced.
func (s *Source) Begin() {
	pods := slices.SortedFunc(s.informer.All(), func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	})
	for _, p := range pods {
		if static.IsMirror(p) {
			continue
		}
		s.hand(types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
	}
}

// rank puts pods first that this node has accepted before.
func rank(p *corev1.Pod) int {
	if p.Status.StartTime != nil {
		return 0
	}
	return 1
}

// Run hands changes on until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		s.mu.Lock()
		dirty := s.dirty
		s.dirty = map[types.NamespacedName]bool{}
		s.mu.Unlock()
		for n := range dirty {
			s.hand(n)
		}
	}
}

// hand compares what is wanted under a name with what was, and tells the workers.
func (s *Source) hand(n types.NamespacedName) {
	pod, ok := s.informer.Get(n.Namespace, n.Name)
	ok = ok && !static.IsMirror(pod)
	if before, was := s.known[n]; was && (!ok || before != pod.UID) {
		s.workers.Remove(before)
		delete(s.known, n)
	}
	if ok {
		s.known[n] = pod.UID
		s.workers.Update(pod)
	}
}
