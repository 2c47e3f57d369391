package cronjob

import (
	"cmp"
	"fmt"
	"slices"
	"time"
	_ "time/tzdata" // a bare machine has no time zones

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// tooMany is how many missed times are worth a warning: the clock or the schedule is wrong.
const tooMany = 100

// facts are what a plan is made from.
type facts struct {
	cj       *batchv1.CronJob
	schedule cron.Schedule
	jobs     []*batchv1.Job // owned by the CronJob
	now      time.Time
}

// plan is what has to be done, in this order.
type plan struct {
	stop    []*batchv1.Job // unfinished ones that a new one replaces
	start   *time.Time     // a Job for this time has to be made
	history []*batchv1.Job // finished ones beyond the limits
	ended   []*batchv1.Job // finished since the last pass
	warning string         // reason and message of a warning, "" for none
	why     string
	status  batchv1.CronJobStatus
	again   time.Duration
}

// parse reads a schedule in its time zone.
func parse(cj *batchv1.CronJob) (cron.Schedule, error) {
	spec := cj.Spec.Schedule
	if cj.Spec.TimeZone != nil {
		if _, err := time.LoadLocation(*cj.Spec.TimeZone); err != nil {
			return nil, fmt.Errorf("time zone %q: %w", *cj.Spec.TimeZone, err)
		}
		spec = "TZ=" + *cj.Spec.TimeZone + " " + spec
	}
	s, err := cron.ParseStandard(spec)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w", cj.Spec.Schedule, err)
	}
	return s, nil
}

// makePlan brings the list of active Jobs up to date, clears the history, and starts the Job of the latest time that
// passed since the last one, unless it is too late for it or the policy forbids it.
func makePlan(f facts) plan {
	p := plan{status: *f.cj.Status.DeepCopy()}
	p.follow(f)
	p.forget(f)
	if f.cj.DeletionTimestamp != nil || f.cj.Spec.Suspend != nil && *f.cj.Spec.Suspend {
		return p
	}
	at, missed := latest(f)
	if missed > tooMany {
		p.warning, p.why = "TooManyMissedTimes", fmt.Sprintf("too many missed start times: %d. Set or decrease .spec.startingDeadlineSeconds or check clock skew", missed)
	}
	if next := f.schedule.Next(f.now); !next.IsZero() {
		p.again = next.Sub(f.now) + 100*time.Millisecond
	}
	if at.IsZero() {
		return p
	}
	p.decide(f, at)
	return p
}

// latest returns the last scheduled time that passed since the last start, zero for none, and how many passed.
func latest(f facts) (time.Time, int) {
	since := f.cj.CreationTimestamp.Time
	if t := f.cj.Status.LastScheduleTime; t != nil {
		since = t.Time
	}
	if d := f.cj.Spec.StartingDeadlineSeconds; d != nil {
		if earliest := f.now.Add(-time.Duration(*d) * time.Second); earliest.After(since) {
			since = earliest
		}
	}
	var last time.Time
	missed := 0
	for t := f.schedule.Next(since); !t.IsZero() && !t.After(f.now); t = f.schedule.Next(t) {
		last = t
		if missed++; missed > 10*tooMany { // jump close to now instead of counting years of minutes
			near := f.schedule.Next(f.now.Add(-time.Hour))
			if near.After(t) && !near.After(f.now) {
				t = near.Add(-time.Nanosecond)
			}
		}
	}
	return last, missed
}

// decide applies the concurrency policy to a time that has come.
func (p *plan) decide(f facts, at time.Time) {
	name := jobName(f.cj, at)
	for _, job := range f.jobs {
		if job.Name == name {
			p.status.LastScheduleTime = later(p.status.LastScheduleTime, at)
			return // it was started; only the status did not say so
		}
	}
	if len(p.status.Active) > 0 {
		switch f.cj.Spec.ConcurrencyPolicy {
		case batchv1.ForbidConcurrent:
			p.warning, p.why = "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid"
			return
		case batchv1.ReplaceConcurrent:
			for _, job := range f.jobs {
				if !finished(job) && job.DeletionTimestamp == nil {
					p.stop = append(p.stop, job)
				}
			}
			p.status.Active = nil
		}
	}
	p.start = &at
	p.status.LastScheduleTime = later(p.status.LastScheduleTime, at)
}

func later(have *metav1.Time, at time.Time) *metav1.Time {
	if have != nil && have.After(at) {
		return have
	}
	return new(metav1.NewTime(at))
}

// follow brings the list of active Jobs and the time of the last success up to date.
func (p *plan) follow(f facts) {
	active := map[string]bool{}
	for _, ref := range p.status.Active {
		active[string(ref.UID)] = true
	}
	p.status.Active = nil
	jobs := slices.SortedFunc(slices.Values(f.jobs), func(a, b *batchv1.Job) int { return cmp.Compare(a.Name, b.Name) })
	for _, job := range jobs {
		if !finished(job) {
			if job.DeletionTimestamp == nil || active[string(job.UID)] {
				p.status.Active = append(p.status.Active, reference(job))
			}
			continue
		}
		if active[string(job.UID)] {
			p.ended = append(p.ended, job)
		}
		if t := job.Status.CompletionTime; succeeded(job) && t != nil && (p.status.LastSuccessfulTime == nil || t.After(p.status.LastSuccessfulTime.Time)) {
			p.status.LastSuccessfulTime = t
		}
	}
}

// forget finds the oldest finished Jobs beyond the limits.
func (p *plan) forget(f facts) {
	for _, kind := range []struct {
		limit *int32
		good  bool
	}{{f.cj.Spec.SuccessfulJobsHistoryLimit, true}, {f.cj.Spec.FailedJobsHistoryLimit, false}} {
		var list []*batchv1.Job
		for _, job := range f.jobs {
			if finished(job) && succeeded(job) == kind.good && job.DeletionTimestamp == nil {
				list = append(list, job)
			}
		}
		if kind.limit == nil || len(list) <= int(*kind.limit) {
			continue
		}
		slices.SortFunc(list, func(a, b *batchv1.Job) int {
			return cmp.Or(startOf(a).Compare(startOf(b)), cmp.Compare(a.Name, b.Name))
		})
		p.history = append(p.history, list[:len(list)-int(*kind.limit)]...)
	}
}

func startOf(job *batchv1.Job) time.Time {
	if job.Status.StartTime != nil {
		return job.Status.StartTime.Time
	}
	return job.CreationTimestamp.Time
}

func finished(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
}

func succeeded(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue
	})
}

func reference(job *batchv1.Job) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: job.Namespace, Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion}
}

// jobName is the name of the Job for a time: one time has one name, so that it cannot be started twice.
func jobName(cj *batchv1.CronJob, at time.Time) string {
	return fmt.Sprintf("%s-%d", cj.Name, at.Unix()/60)
}

// newJob makes the Job for a time.
func newJob(cj *batchv1.CronJob, at time.Time) *batchv1.Job {
	t := cj.Spec.JobTemplate.DeepCopy()
	if t.Annotations == nil {
		t.Annotations = map[string]string{}
	}
	local := at
	if cj.Spec.TimeZone != nil {
		if zone, err := time.LoadLocation(*cj.Spec.TimeZone); err == nil {
			local = at.In(zone)
		}
	}
	t.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = local.Format(time.RFC3339)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cj.Namespace, Name: jobName(cj, at), Labels: t.Labels, Annotations: t.Annotations,
			CreationTimestamp: metav1.NewTime(at), OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cj, kind)},
		},
		Spec: t.Spec,
	}
}
