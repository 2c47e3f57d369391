package ttl

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLeft(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ended := func(kind batchv1.JobConditionType, ago time.Duration) []batchv1.JobCondition {
		return []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-ago))}}
	}
	for name, c := range map[string]struct {
		ttl        *int32
		conditions []batchv1.JobCondition
		rest       time.Duration
		over       bool
	}{
		"no such time":   {nil, ended(batchv1.JobComplete, time.Hour), 0, false},
		"works still":    {new(int32(0)), nil, 0, false},
		"suspended":      {new(int32(0)), ended(batchv1.JobSuspended, time.Hour), 0, false},
		"complete, over": {new(int32(10)), ended(batchv1.JobComplete, 10*time.Second), 0, true},
		"failed, stays":  {new(int32(10)), ended(batchv1.JobFailed, 4*time.Second), 6 * time.Second, false},
		"at once":        {new(int32(0)), ended(batchv1.JobFailed, 0), 0, true},
	} {
		job := &batchv1.Job{Spec: batchv1.JobSpec{TTLSecondsAfterFinished: c.ttl}, Status: batchv1.JobStatus{Conditions: c.conditions}}
		if rest, over := left(job, now); rest != c.rest || over != c.over {
			t.Errorf("%s: %v, %v; want %v, %v", name, rest, over, c.rest, c.over)
		}
	}
}
