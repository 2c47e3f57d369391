package batch

import (
	"fmt"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

func parseInterval(text string, completions int32) (interval, error) {
	first, last, isRange := strings.Cut(text, "-")
	if strings.Contains(last, "-") {
		return interval{}, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", text)
	}
	number := func(s string) (int32, error) {
		n, err := strconv.Atoi(s)
		switch {
		case err != nil:
			return 0, fmt.Errorf("cannot convert string to integer for index: %q", s)
		case n >= int(completions):
			return 0, fmt.Errorf("too large index: %q", s)
		}
		return int32(n), nil
	}
	a, err := number(first)
	if err != nil || !isRange {
		return interval{a, a}, err
	}
	b, err := number(last)
	if err == nil && a >= b {
		err = fmt.Errorf("non-increasing order, previous: %d, current: %d", a, b)
	}
	return interval{a, b}, err
}

// jobReport is a change of a job's status, with what is looked at more than once.
type jobReport struct {
	spec     *batchv1.JobSpec
	now, was *batchv1.JobStatus
	path     *field.Path
	errs     field.ErrorList
}

// validateJobStatusUpdate wants a status that is possible, from whoever reports it: a job may be managed by somebody
// else's controller. Only what changes is judged, so that an old slip does not stand in the way of new facts.
func validateJobStatusUpdate(j, old *batchv1.Job) field.ErrorList {
	r := &jobReport{spec: &j.Spec, now: &j.Status, was: &old.Status, path: field.NewPath("status")}
	r.numbers()
	r.uncounted()
	r.conditions()
	r.times()
	r.finished()
	r.indexes()
	return r.errs
}

func finished(s *batchv1.JobStatus) bool {
	return has(s, batchv1.JobComplete) || has(s, batchv1.JobFailed)
}

func (r *jobReport) flips(t batchv1.JobConditionType) bool { return has(r.now, t) != has(r.was, t) }

func (r *jobReport) condition(when bool, text string) {
	if when {
		r.errs = append(r.errs, field.Invalid(r.path.Child("conditions"), field.OmitValueType{}, text))
	}
}

func (r *jobReport) invalid(when bool, name string, value any, text string) {
	if when {
		r.errs = append(r.errs, field.Invalid(r.path.Child(name), value, text))
	}
}

func (r *jobReport) required(when bool, name, text string) {
	if when {
		r.errs = append(r.errs, field.Required(r.path.Child(name), text))
	}
}

func (r *jobReport) numbers() {
	now, was := r.now, r.was
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"active", now.Active}, {"succeeded", now.Succeeded}, {"failed", now.Failed}, {"ready", deref(now.Ready)}, {"terminating", deref(now.Terminating)},
	} {
		r.errs = append(r.errs, check.NonNegative(n.value, r.path.Child(n.name))...)
	}
	r.invalid(now.Failed < was.Failed, "failed", now.Failed, "cannot decrease the failed counter")
	elastic := indexed(r.spec) && deref(r.spec.Completions) == deref(r.spec.Parallelism)
	r.invalid(!elastic && now.Succeeded < was.Succeeded, "succeeded", now.Succeeded, "cannot decrease the succeeded counter")
	changed := now.Active != was.Active || !equality.Semantic.DeepEqual(now.Ready, was.Ready)
	r.invalid(changed && now.Ready != nil && *now.Ready > now.Active, "ready", deref(now.Ready), "cannot set more ready pods than active")
}

func (r *jobReport) uncounted() {
	u := r.now.UncountedTerminatedPods
	if u == nil {
		return
	}
	seen := sets.New[types.UID]()
	for _, list := range []struct {
		name string
		of   []types.UID
	}{{"succeeded", u.Succeeded}, {"failed", u.Failed}} {
		for i, uid := range list.of {
			at := r.path.Child("uncountedTerminatedPods", list.name).Index(i)
			if uid == "" {
				r.errs = append(r.errs, field.Invalid(at, uid, "must not be empty"))
			} else if seen.Has(uid) {
				r.errs = append(r.errs, field.Duplicate(at, uid))
			}
			seen.Insert(uid)
		}
	}
}

func (r *jobReport) conditions() {
	now, was := r.now, r.was
	complete, failed, met, target := has(now, batchv1.JobComplete), has(now, batchv1.JobFailed), has(now, batchv1.JobSuccessCriteriaMet), has(now, batchv1.JobFailureTarget)
	for _, t := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		r.condition(has(was, t) && !has(now, t), fmt.Sprintf("cannot disable the terminal %s=True condition", t))
	}
	r.condition(complete && failed && (r.flips(batchv1.JobComplete) || r.flips(batchv1.JobFailed)), "cannot set Complete=True and Failed=true conditions")
	r.condition(complete && target && (r.flips(batchv1.JobComplete) || r.flips(batchv1.JobFailureTarget)), "cannot set Complete=True and FailureTarget=true conditions")
	failedIndexes := !equality.Semantic.DeepEqual(now.FailedIndexes, was.FailedIndexes)
	r.condition(failed && !target && (r.flips(batchv1.JobFailed) || failedIndexes), "cannot set Failed=True condition without the FailureTarget=true condition")
	r.condition(complete && !met && (r.flips(batchv1.JobComplete) || r.flips(batchv1.JobSuccessCriteriaMet)), "cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	r.condition(met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions")
	r.condition(met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
	r.condition(r.spec.SuccessPolicy != nil && !met && complete, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
	r.condition(has(was, batchv1.JobSuccessCriteriaMet) && !met, "cannot disable the SuccessCriteriaMet=True condition")
	r.condition(has(was, batchv1.JobComplete) && !has(was, batchv1.JobSuccessCriteriaMet) && met, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
}

func (r *jobReport) times() {
	now, was := r.now, r.was
	begun, ended := differ(now.StartTime, was.StartTime), differ(now.CompletionTime, was.CompletionTime)
	complete := has(now, batchv1.JobComplete)
	changed := r.flips(batchv1.JobComplete) || ended
	r.invalid(changed && now.CompletionTime != nil && !complete, "completionTime", now.CompletionTime, "cannot set completionTime when there is no Complete=True condition")
	r.required(changed && now.CompletionTime == nil && complete, "completionTime", "completionTime is required for Complete jobs")
	r.invalid((begun || ended) && now.StartTime != nil && now.CompletionTime != nil && now.CompletionTime.Before(now.StartTime),
		"completionTime", now.CompletionTime, "must be equal to or after `startTime`")
	r.invalid(now.CompletionTime != nil && was.CompletionTime != nil && ended, "completionTime", now.CompletionTime, "field is immutable")
	resumes := has(was, batchv1.JobSuspended) && condition(now, batchv1.JobSuspended, corev1.ConditionFalse)
	r.invalid(begun && !resumes && was.StartTime != nil && !deref(r.spec.Suspend), "startTime", now.StartTime, "field is immutable for unsuspended job once set")
}

func (r *jobReport) finished() {
	if !finished(r.now) {
		return
	}
	now, was := r.now, r.was
	flips := !finished(was)
	r.invalid((flips || now.Active != was.Active) && now.Active > 0, "active", now.Active, "active>0 is invalid for finished job")
	empty := deref(r.spec.Suspend) && r.spec.Completions != nil && *r.spec.Completions == 0
	r.required((flips || differ(now.StartTime, was.StartTime)) && !empty && now.StartTime == nil, "startTime", "startTime is required for finished job")
	u := now.UncountedTerminatedPods
	r.invalid((flips || !equality.Semantic.DeepEqual(u, was.UncountedTerminatedPods)) && u != nil && len(u.Failed)+len(u.Succeeded) > 0,
		"uncountedTerminatedPods", u, "must be empty for finished job")
	r.invalid((flips || deref(now.Terminating) != deref(was.Terminating)) && deref(now.Terminating) > 0, "terminating", now.Terminating, "terminating>0 is invalid for finished job")
}

func (r *jobReport) indexes() {
	now, was := r.now, r.was
	done, failed := now.CompletedIndexes != was.CompletedIndexes, !equality.Semantic.DeepEqual(now.FailedIndexes, was.FailedIndexes)
	r.invalid(done && now.CompletedIndexes != "" && !indexed(r.spec), "completedIndexes", now.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode")
	r.invalid(failed && r.spec.BackoffLimitPerIndex == nil && now.FailedIndexes != nil, "failedIndexes", deref(now.FailedIndexes), "cannot set non-null failedIndexes when backoffLimitPerIndex is null")
	if r.spec.Completions == nil {
		return
	}
	completed, err := parseIndexes(now.CompletedIndexes, *r.spec.Completions)
	r.invalid(done && err != nil, "completedIndexes", now.CompletedIndexes, fmt.Sprintf("error parsing completedIndexes: %v", err))
	if now.FailedIndexes == nil {
		return
	}
	lost, err := parseIndexes(*now.FailedIndexes, *r.spec.Completions)
	r.invalid(failed && err != nil && r.spec.BackoffLimitPerIndex != nil, "failedIndexes", now.FailedIndexes, fmt.Sprintf("error parsing failedIndexes: %v", err))
	if at := overlap(completed, lost); (done || failed) && at >= 0 {
		r.invalid(true, "failedIndexes", *now.FailedIndexes, fmt.Sprintf("failedIndexes and completedIndexes overlap at index: %d", at))
	}
}

// overlap is the first index that two lists share, or -1.
func overlap(a, b []interval) int32 {
	for len(a) > 0 && len(b) > 0 {
		if a[0].first <= b[0].last && b[0].first <= a[0].last {
			return max(a[0].first, b[0].first)
		}
		if a[0].first <= b[0].first {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return -1
}

func differ(a, b *metav1.Time) bool { return !a.Equal(b) }
