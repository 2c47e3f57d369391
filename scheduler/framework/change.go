package framework

import corev1 "k8s.io/api/core/v1"

// Change is something that happened in the cluster which pods may be waiting for.
type Change struct {
	What    ChangeKind
	Node    *Node        // that it is about, or that the pod is or was on, as it is now
	OldNode *corev1.Node // of NodeChanged: as it was
	Pod     *Pod         // of PodPlaced, PodChanged: as it is now; of PodGone: as it was
	OldPod  *Pod         // of PodChanged: as it was
	Freed   bool         // of DevicesChanged: a claim has given devices back
	Object  any          // of StorageChanged and DevicesChanged: the API object as it is now, nil when it is gone
}

// ChangeKind is what happened.
type ChangeKind int

// The changes that can help.
const (
	NodeAdded ChangeKind = iota
	NodeChanged
	PodPlaced      // a pod is on a node now
	PodChanged     // a pod on a node has other labels, or takes less
	PodGone        // a pod left its node
	StorageChanged // a volume, a claim, a class or what a node's drivers can do
	DevicesChanged // a device claim, class or slice
)

// String is the kind as metrics name it, upstream's words where it has them.
func (k ChangeKind) String() string {
	return [...]string{"NodeAdd", "NodeUpdate", "AssignedPodAdd", "AssignedPodUpdate", "AssignedPodDelete", "StorageUpdate", "ResourceClaimUpdate"}[k]
}

// ChangeKinds is a set of them.
type ChangeKinds uint

// Kinds makes a set.
func Kinds(list ...ChangeKind) (set ChangeKinds) {
	for _, k := range list {
		set |= 1 << k
	}
	return set
}

// Has says whether a kind is in the set.
func (s ChangeKinds) Has(k ChangeKind) bool { return s&(1<<k) != 0 }
