package lifecycle

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Limits on how fast nodes are given up. A controller that cannot see its nodes must not empty the cluster.
const (
	normalEvery    = 10 * time.Second  // one node per zone (--node-eviction-rate 0.1 per second)
	secondaryEvery = 100 * time.Second // the same where most of a large zone is lost (--secondary-node-eviction-rate 0.01)
	largeZone      = 50                // nodes; smaller zones stop entirely (--large-cluster-size-threshold)
	disrupted      = 0.55              // part of a zone whose loss is a disruption (--unhealthy-zone-threshold)
)

// zones limits evictions per failure domain. It is safe for concurrent use.
type zones struct {
	mu    sync.Mutex // guards next
	next  map[string]time.Time
	every time.Duration // normalEvery, overridden by a flag
}

func newZones(every time.Duration) *zones {
	return &zones{next: map[string]time.Time{}, every: every}
}

// tally counts the nodes of a zone.
type tally struct{ ready, lost int }

// interval says how long must lie between two evictions in the zone; ok is false when there must be none at all: every
// node of every zone is lost (the fault is on this side), or more than disrupted of a small zone.
func interval(zone tally, everything tally, normal time.Duration) (every time.Duration, ok bool) {
	size := zone.ready + zone.lost
	switch {
	case everything.ready == 0 && everything.lost > 0:
		return 0, false
	case zone.ready == 0:
		return normal, true // the whole zone is gone and others are not: believe it
	case zone.lost > 2 && float64(zone.lost)/float64(size) >= disrupted:
		return max(secondaryEvery, normal), size > largeZone
	default:
		return normal, true
	}
}

// allow asks for one eviction in the zone. When it is refused, wait says when to ask again.
func (z *zones) allow(zone string, counts, everything tally, now time.Time) (allowed bool, wait time.Duration) {
	every, ok := interval(counts, everything, z.every)
	if !ok {
		return false, z.every
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if next := z.next[zone]; now.Before(next) {
		return false, next.Sub(now)
	}
	z.next[zone] = now.Add(every)
	return true, 0
}

// zoneOf is the failure domain of a node.
func zoneOf(node *corev1.Node) string {
	return node.Labels[corev1.LabelTopologyRegion] + ":" + node.Labels[corev1.LabelTopologyZone]
}
