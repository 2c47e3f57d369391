package lifecycle

import (
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// heartbeats remembers when the last sign of life of each node arrived here. The times are local and monotonic: what a
// node writes is only compared with what it wrote before, so a wrong clock on either side has no effect. It is fed on a
// standby as well. It is safe for concurrent use.
type heartbeats struct {
	mu   sync.Mutex // guards last
	last map[string]heartbeat
}

type heartbeat struct {
	arrived time.Time
	lease   metav1.MicroTime // spec.renewTime
	status  metav1.Time      // lastHeartbeatTime of the condition Ready
}

func newHeartbeats() *heartbeats {
	return &heartbeats{last: map[string]heartbeat{}}
}

// lease takes in the node's Lease; a renewal is a sign of life.
func (h *heartbeats) lease(l *coordinationv1.Lease, now time.Time) {
	if l.Spec.RenewTime == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.last[l.Name]
	if !b.lease.Equal(l.Spec.RenewTime) {
		b.lease, b.arrived = *l.Spec.RenewTime, now
		h.last[l.Name] = b
	}
}

// node takes in the node's status; a new time of heartbeat in its condition Ready is a sign of life, unless this
// controller wrote the condition.
func (h *heartbeats) node(n *corev1.Node, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, known := h.last[n.Name]
	ready := condition(n.Status.Conditions, corev1.NodeReady)
	switch {
	case !known:
		b.arrived = now // the benefit of the doubt
	case ready != nil && ready.Status != corev1.ConditionUnknown && !b.status.Equal(&ready.LastHeartbeatTime):
		b.arrived = now
	}
	if ready != nil {
		b.status = ready.LastHeartbeatTime
	}
	h.last[n.Name] = b
}

// silence is how long nothing was heard of the node; 0 for one that is not known.
func (h *heartbeats) silence(name string, now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.last[name]
	if !ok {
		return 0
	}
	return now.Sub(b.arrived)
}

// forget drops a node.
func (h *heartbeats) forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.last, name)
}
