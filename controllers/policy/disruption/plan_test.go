package disruption

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func pods(n, ready int) []*corev1.Pod {
	var out []*corev1.Pod
	for i := range n {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)}}
		if i < ready {
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		out = append(out, pod)
	}
	return out
}

func TestStatus(t *testing.T) {
	number, part := func(n int) *intstr.IntOrString { return new(intstr.FromInt(n)) }, func(s string) *intstr.IntOrString { return new(intstr.FromString(s)) }
	for _, tt := range []struct {
		name       string
		min, max   *intstr.IntOrString
		pods       []*corev1.Pod
		size       int
		err        error
		leaving    map[string]metav1.Time
		allowed    int32
		reason     string
		remembered int
	}{
		{name: "one to spare", min: number(2), pods: pods(3, 3), allowed: 1, reason: policyv1.SufficientPodsReason},
		{name: "none to spare", min: number(2), pods: pods(3, 2), reason: policyv1.InsufficientPodsReason},
		{name: "percentage, rounded up", min: part("50%"), pods: pods(3, 3), size: 3, allowed: 1, reason: policyv1.SufficientPodsReason},
		{name: "max unavailable counts those that lack", max: number(1), pods: pods(2, 2), size: 3, reason: policyv1.InsufficientPodsReason},
		{name: "what is not known allows nothing", max: number(1), pods: pods(3, 3), err: errors.New("whose?"), reason: policyv1.SyncFailedReason},
		{name: "one on its way out does not count", min: number(2), pods: pods(3, 3), leaving: map[string]metav1.Time{"p0": metav1.NewTime(now)}, reason: policyv1.InsufficientPodsReason, remembered: 1},
		{name: "one that never went counts again", min: number(2), pods: pods(3, 3), leaving: map[string]metav1.Time{"p0": metav1.NewTime(now.Add(-time.Hour))}, allowed: 1, reason: policyv1.SufficientPodsReason},
		{name: "no pods", min: number(0), reason: policyv1.InsufficientPodsReason},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pdb := &policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: tt.min, MaxUnavailable: tt.max}}
			pdb.Status.DisruptedPods = tt.leaving
			s, _ := makeStatus(facts{pdb: pdb, pods: tt.pods, expected: func() (int, error) { return tt.size, tt.err }, now: now})
			if s.DisruptionsAllowed != tt.allowed || s.Conditions[0].Reason != tt.reason || len(s.DisruptedPods) != tt.remembered {
				t.Errorf("%+v", s)
			}
		})
	}
}
