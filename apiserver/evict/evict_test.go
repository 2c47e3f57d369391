package evict

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTake(t *testing.T) {
	budget := func(allowed int32, change func(*policyv1.PodDisruptionBudget)) *policyv1.PodDisruptionBudget {
		b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b", Generation: 2}}
		b.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 2, DisruptionsAllowed: allowed}
		if change != nil {
			change(b)
		}
		return b
	}
	for name, tc := range map[string]struct {
		budget *policyv1.PodDisruptionBudget
		is     func(error) bool
	}{
		"allowed":       {budget(2, nil), nil},
		"last":          {budget(1, nil), nil},
		"none left":     {budget(0, nil), apierrors.IsTooManyRequests},
		"not looked at": {budget(2, func(b *policyv1.PodDisruptionBudget) { b.Generation = 3 }), apierrors.IsTooManyRequests},
		"negative":      {budget(-1, nil), apierrors.IsForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			was := tc.budget.Status.DisruptionsAllowed
			_, err := take(tc.budget, "p", time.Now())
			if tc.is != nil {
				if !tc.is(err) || tc.budget.Status.DisruptionsAllowed != was {
					t.Fatalf("error %v, %d left", err, tc.budget.Status.DisruptionsAllowed)
				}
				return
			}
			if err != nil || tc.budget.Status.DisruptionsAllowed != was-1 || len(tc.budget.Status.DisruptedPods) != 1 {
				t.Fatalf("error %v, status %+v", err, tc.budget.Status)
			}
			if blocked := len(tc.budget.Status.Conditions) == 1; blocked != (was == 1) {
				t.Errorf("conditions %v", tc.budget.Status.Conditions)
			}
		})
	}
}

func TestSpares(t *testing.T) {
	always := policyv1.AlwaysAllow
	for name, tc := range map[string]struct {
		policy           *policyv1.UnhealthyPodEvictionPolicyType
		healthy, desired int32
		want             bool
	}{
		"enough others are ready": {nil, 3, 3, true},
		"too few are ready":       {nil, 2, 3, false},
		"nothing is wished":       {nil, 0, 0, false},
		"always":                  {&always, 0, 3, true},
	} {
		b := &policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{UnhealthyPodEvictionPolicy: tc.policy}}
		b.Status.CurrentHealthy, b.Status.DesiredHealthy = tc.healthy, tc.desired
		if got := spares(b); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOnlyThis(t *testing.T) {
	e := &policyv1.Eviction{}
	got := onlyThis(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "7"}}, e)
	if rv := got.DeleteOptions.Preconditions.ResourceVersion; rv == nil || *rv != "7" || e.DeleteOptions != nil {
		t.Fatalf("%+v, sent %+v", got, e)
	}
	mine := "5"
	e.DeleteOptions = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &mine}}
	if got := onlyThis(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "7"}}, e); *got.DeleteOptions.Preconditions.ResourceVersion != "5" {
		t.Error("the client's own condition was overwritten")
	}
}
