package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/controllers/podstate"
)

// makeStatus counts what the cache shows. failure is the error of this pass's creations or deletions; it becomes the
// condition ReplicaFailure. The duration is the time until the next ready pod becomes available, 0 when none is
// waiting.
func makeStatus(set *appsv1.ReplicaSet, active, terminating []*corev1.Pod, failure error, now time.Time) (appsv1.ReplicaSetStatus, time.Duration) {
	status := *set.Status.DeepCopy()
	status.ObservedGeneration = set.Generation
	status.Replicas = int32(len(active))
	status.FullyLabeledReplicas, status.ReadyReplicas, status.AvailableReplicas = 0, 0, 0
	status.TerminatingReplicas = new(int32(len(terminating)))
	template := labels.SelectorFromSet(set.Spec.Template.Labels)
	var next time.Duration
	for _, pod := range active {
		if template.Matches(labels.Set(pod.Labels)) {
			status.FullyLabeledReplicas++
		}
		if !podstate.Ready(pod) {
			continue
		}
		status.ReadyReplicas++
		available, wait := podstate.Available(pod, set.Spec.MinReadySeconds, now)
		switch {
		case available:
			status.AvailableReplicas++
		case wait > 0 && (next == 0 || wait < next):
			next = wait
		}
	}
	status.Conditions = failureCondition(status.Conditions, int(wanted(set))-len(active), failure, now)
	return status, next
}

// failureCondition sets or clears ReplicaFailure; missing is the number of replicas that lack, negative when there are
// too many. A condition that stands is left as it was first reported.
func failureCondition(conditions []appsv1.ReplicaSetCondition, missing int, failure error, now time.Time) []appsv1.ReplicaSetCondition {
	at := -1
	for i := range conditions {
		if conditions[i].Type == appsv1.ReplicaSetReplicaFailure {
			at = i
		}
	}
	switch {
	case failure == nil && at >= 0:
		return append(conditions[:at:at], conditions[at+1:]...)
	case failure == nil || at >= 0:
		return conditions
	}
	reason := "FailedCreate"
	if missing < 0 {
		reason = "FailedDelete"
	}
	return append(conditions, appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now),
		Reason: reason, Message: failure.Error(),
	})
}

// sameStatus reports whether writing b over a would change nothing.
func sameStatus(a, b appsv1.ReplicaSetStatus) bool {
	return equality.Semantic.DeepEqual(a, b)
}
