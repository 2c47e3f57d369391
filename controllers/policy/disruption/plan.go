package disruption

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hardway/controllers/podstate"
)

// grace is how long a pod that was allowed to go counts as gone although nobody has deleted it yet.
const grace = 2 * time.Minute

// facts are what a status is made from.
type facts struct {
	pdb  *policyv1.PodDisruptionBudget
	pods []*corev1.Pod // that the selector finds
	// expected is how many pods there should be, asked of those that own them; an error says whose size is not known.
	expected func() (int, error)
	now      time.Time
}

// makeStatus says how many pods may be taken away. What is not known allows nothing. The duration is the time until an
// eviction that was allowed and did not happen is forgotten.
func makeStatus(f facts) (policyv1.PodDisruptionBudgetStatus, time.Duration) {
	s := *f.pdb.Status.DeepCopy()
	s.ObservedGeneration = f.pdb.Generation
	again := f.remember(&s)
	want, healthy, err := f.desired()
	if err != nil {
		s.DisruptionsAllowed = 0
		f.condition(&s, metav1.ConditionFalse, policyv1.SyncFailedReason, err.Error())
		return s, again
	}
	s.ExpectedPods, s.DesiredHealthy, s.CurrentHealthy = int32(want), int32(healthy), 0
	for _, pod := range f.pods {
		if _, leaving := s.DisruptedPods[pod.Name]; !leaving && pod.DeletionTimestamp == nil && podstate.Ready(pod) {
			s.CurrentHealthy++
		}
	}
	s.DisruptionsAllowed = 0
	if want > 0 {
		s.DisruptionsAllowed = max(0, s.CurrentHealthy-s.DesiredHealthy)
	}
	if s.DisruptionsAllowed > 0 {
		f.condition(&s, metav1.ConditionTrue, policyv1.SufficientPodsReason, "")
	} else {
		f.condition(&s, metav1.ConditionFalse, policyv1.InsufficientPodsReason, "")
	}
	return s, again
}

// remember keeps the evictions that were allowed and whose pods are still there.
func (f facts) remember(s *policyv1.PodDisruptionBudgetStatus) time.Duration {
	kept := map[string]metav1.Time{}
	var again time.Duration
	for _, pod := range f.pods {
		at, ok := s.DisruptedPods[pod.Name]
		left := at.Add(grace).Sub(f.now)
		if !ok || pod.DeletionTimestamp != nil || left <= 0 {
			continue
		}
		kept[pod.Name] = at
		if again == 0 || left < again {
			again = left
		}
	}
	s.DisruptedPods = kept
	return again
}

// desired is how many pods there should be and how many of them have to be healthy.
func (f facts) desired() (want, healthy int, err error) {
	limit, min := f.pdb.Spec.MaxUnavailable, f.pdb.Spec.MinAvailable
	if limit == nil && (min == nil || min.Type == intstr.Int) {
		want = len(f.pods)
		if min != nil {
			healthy = min.IntValue()
		}
		return want, healthy, nil
	}
	if want, err = f.expected(); err != nil {
		return 0, 0, err
	}
	if limit == nil {
		healthy, err = intstr.GetScaledValueFromIntOrPercent(min, want, true)
	} else {
		var may int
		may, err = intstr.GetScaledValueFromIntOrPercent(limit, want, true)
		healthy = max(0, want-may)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the budget: %w", err)
	}
	return want, healthy, nil
}

func (f facts) condition(s *policyv1.PodDisruptionBudgetStatus, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: status, Reason: reason, Message: message,
		ObservedGeneration: s.ObservedGeneration, LastTransitionTime: metav1.NewTime(f.now),
	})
}
