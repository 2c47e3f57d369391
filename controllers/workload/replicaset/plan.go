package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"hardway/controllers/podstate"
)

// burst is the most pods that one pass creates or deletes; the rest follows in the next pass.
const burst = 500

// facts are what a plan is made from.
type facts struct {
	set     *appsv1.ReplicaSet
	active  []*corev1.Pod                          // the set's pods that count as replicas, without those that we deleted already
	unseen  int                                    // pods that we created and the cache does not show yet
	related func(*appsv1.ReplicaSet) []*corev1.Pod // see source.family
	now     time.Time
}

// plan is what has to be done to have the wanted number of replicas.
type plan struct {
	create int
	remove []*corev1.Pod
}

// makePlan compares the replicas that exist or are on their way with those that are wanted. A set that is being deleted
// neither creates nor removes. Of the pods that the cache does not show yet none can be chosen for removal, so only
// what is surplus among the visible ones goes now.
func makePlan(f facts) plan {
	if f.set.DeletionTimestamp != nil {
		return plan{}
	}
	surplus := len(f.active) + f.unseen - int(wanted(f.set))
	switch {
	case surplus < 0:
		return plan{create: min(-surplus, burst)}
	case surplus > 0:
		return plan{remove: podstate.FirstToGo(f.active, f.related(f.set), min(surplus, burst, len(f.active)), f.now)}
	default:
		return plan{}
	}
}

// wanted is the number of replicas that the spec asks for; 1 when it says nothing.
func wanted(set *appsv1.ReplicaSet) int32 {
	if set.Spec.Replicas == nil {
		return 1
	}
	return *set.Spec.Replicas
}
