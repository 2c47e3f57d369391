// Package trigger remembers when the objects behind a Service last changed, for the annotation
// endpoints.kubernetes.io/last-change-trigger-time: consumers measure from it how long a change took to reach the data
// path. The time is that of the earliest change since the last look.
package trigger

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/podstate"
)

// Times holds one state per Service; Forget drops it. It is safe for concurrent use.
type Times struct {
	mu    sync.Mutex // guards known
	known map[types.NamespacedName]state
}

type state struct {
	service time.Time
	pods    map[string]time.Time
}

// New returns an empty memory.
func New() *Times {
	return &Times{known: map[types.NamespacedName]state{}}
}

// Last returns when the earliest of the changes since the last call happened: a pod's readiness changed, or the Service
// was created. It is the zero time when nothing is known to have changed.
func (t *Times) Last(svc *corev1.Service, pods []*corev1.Pod) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	before := t.known[key]
	now := state{service: svc.CreationTimestamp.Time, pods: make(map[string]time.Time, len(pods))}
	var first time.Time
	note := func(at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	for _, pod := range pods {
		c := podstate.Condition(pod, corev1.PodReady)
		if c == nil || c.LastTransitionTime.IsZero() {
			continue
		}
		now.pods[pod.Name] = c.LastTransitionTime.Time
		if c.LastTransitionTime.After(before.pods[pod.Name]) {
			note(c.LastTransitionTime.Time)
		}
	}
	if now.service.After(before.service) {
		note(now.service)
	}
	t.known[key] = now
	return first
}

// Forget drops what is known of a Service.
func (t *Times) Forget(namespace, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, types.NamespacedName{Namespace: namespace, Name: name})
}
