package cronjob

import (
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func job(name string, ago time.Duration, end batchv1.JobConditionType) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(now.Add(-ago))}}
	if end != "" {
		j.Status.Conditions = []batchv1.JobCondition{{Type: end, Status: corev1.ConditionTrue}}
	}
	return j
}

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spec   batchv1.CronJobSpec
		last   time.Duration // ago
		jobs   []*batchv1.Job
		active []string
		start  string
		stop   int
		gone   int
	}{
		{name: "due", last: 5 * time.Minute, start: "03:04"},
		{name: "not due", last: 3 * time.Second},
		{name: "suspended", spec: batchv1.CronJobSpec{Suspend: new(true)}, last: time.Hour},
		{name: "too late", spec: batchv1.CronJobSpec{Schedule: "0 * * * *", StartingDeadlineSeconds: new(int64(60))}, last: time.Hour},
		{name: "forbidden", spec: batchv1.CronJobSpec{ConcurrencyPolicy: batchv1.ForbidConcurrent}, last: time.Hour, jobs: []*batchv1.Job{job("a", time.Hour, "")}},
		{name: "replaced", spec: batchv1.CronJobSpec{ConcurrencyPolicy: batchv1.ReplaceConcurrent}, last: time.Hour, jobs: []*batchv1.Job{job("a", time.Hour, "")}, start: "03:04", stop: 1},
		{name: "beside", spec: batchv1.CronJobSpec{ConcurrencyPolicy: batchv1.AllowConcurrent}, last: time.Hour, jobs: []*batchv1.Job{job("a", time.Hour, "")}, start: "03:04"},
		{name: "started already", last: time.Hour, jobs: []*batchv1.Job{job(fmt.Sprint("c-", now.Unix()/60), 0, "")}},
		{name: "years missed", last: 20000 * time.Hour, start: "03:04"},
		{name: "history", spec: batchv1.CronJobSpec{SuccessfulJobsHistoryLimit: new(int32(1)), FailedJobsHistoryLimit: new(int32(0))}, last: 3 * time.Second, gone: 2,
			jobs: []*batchv1.Job{job("a", 2*time.Hour, batchv1.JobComplete), job("b", time.Hour, batchv1.JobComplete), job("c", time.Hour, batchv1.JobFailed)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cj := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "c", UID: "c"}, Spec: tt.spec}
			if cj.Spec.Schedule == "" {
				cj.Spec.Schedule = "* * * * *"
			}
			cj.Status.LastScheduleTime = &metav1.Time{Time: now.Add(-tt.last)}
			schedule, err := parse(cj)
			if err != nil {
				t.Fatal(err)
			}
			p := makePlan(facts{cj: cj, schedule: schedule, jobs: tt.jobs, now: now})
			start := ""
			if p.start != nil {
				start = p.start.Format("15:04")
			}
			if start != tt.start || len(p.stop) != tt.stop || len(p.history) != tt.gone {
				t.Errorf("start %q, stop %d, history %d; want %q, %d, %d", start, len(p.stop), len(p.history), tt.start, tt.stop, tt.gone)
			}
		})
	}
}

func TestTimeZone(t *testing.T) {
	cj := &batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: "0 4 * * *", TimeZone: new("Europe/Berlin")}}
	s, err := parse(cj)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Next(now.Add(-time.Hour)).UTC().Format("15:04"); got != "03:00" {
		t.Errorf("four o'clock in Berlin is %s", got)
	}
	cj.Spec.TimeZone = new("Nowhere/Land")
	if _, err := parse(cj); err == nil {
		t.Error("a zone that is not is accepted")
	}
}
