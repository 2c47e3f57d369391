// Package batch declares the kinds of the group batch: pods that run until they are done, now or by the clock.
package batch

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

const group, version = "batch", "v1"

// The labels by which a job knows its pods; the first two are older than label domains.
const (
	oldNameLabel = "job-name"
	oldUIDLabel  = "controller-uid"
	defaultTries = 6
)

// Job runs pods until enough of them have succeeded.
//
// Its parts: job_validate.go checks what is wished, job_status.go what is reported.
var Job = resource.Define(scheme.Types, resource.Spec[batchv1.Job]{
	Names:                    resource.Names{Group: group, Version: version, Kind: "Job", Plural: "jobs", Categories: []string{"all"}},
	Scope:                    resource.Namespaced,
	Default:                  defaultJob,
	SetStatus:                func(dst, src *batchv1.Job) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged:              func(j, old *batchv1.Job) bool { return !equality.Semantic.DeepEqual(j.Spec, old.Spec) },
	Prepare:                  prepareJob,
	Validate:                 validateJob,
	ValidateCreate:           func(j *batchv1.Job) field.ErrorList { return validateGenerated(j, true) },
	ValidateUpdate:           validateJobUpdate,
	ValidateStatusUpdate:     validateJobStatusUpdate,
	Warnings:                 warnJob,
	OrphanByDefault:          true,
	AllowUnconditionalUpdate: true,
	Fields: map[string]func(*batchv1.Job) string{
		"status.successful": func(j *batchv1.Job) string { return strconv.Itoa(int(j.Status.Succeeded)) },
	},
	Columns: jobColumns(),
})

func defaultJob(j *batchv1.Job) {
	s := &j.Spec
	if s.Completions == nil && s.Parallelism == nil {
		fill.Ptr(&s.Completions, 1)
	}
	fill.Ptr(&s.Parallelism, 1)
	tries := int32(defaultTries)
	if s.BackoffLimitPerIndex != nil {
		tries = math.MaxInt32
	}
	fill.Ptr(&s.BackoffLimit, tries)
	if len(j.Labels) == 0 && s.Template.Labels != nil {
		j.Labels = map[string]string{}
		for key, value := range s.Template.Labels {
			j.Labels[key] = value
		}
	}
	fill.Ptr(&s.CompletionMode, batchv1.NonIndexedCompletion)
	fill.Ptr(&s.Suspend, false)
	replacement := batchv1.TerminatingOrFailed
	if s.PodFailurePolicy != nil {
		replacement = batchv1.Failed
	}
	fill.Ptr(&s.PodReplacementPolicy, replacement)
	fill.Ptr(&s.ManualSelector, false)
	defaultJobTemplate(s)
}

// defaultJobTemplate fills what is filled in the template of a CronJob as well.
func defaultJobTemplate(s *batchv1.JobSpec) {
	if p := s.PodFailurePolicy; p != nil {
		for i := range p.Rules {
			for j := range p.Rules[i].OnPodConditions {
				fill.Zero(&p.Rules[i].OnPodConditions[j].Status, corev1.ConditionTrue)
			}
		}
	}
	core.DefaultPodTemplate(&s.Template)
}

// prepareJob makes the selector, and the labels that it selects, unless the user does.
func prepareJob(_ context.Context, j, old *batchv1.Job) {
	if old != nil || deref(j.Spec.ManualSelector) {
		return
	}
	t := &j.Spec.Template
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	for label, value := range generatedLabels(j) {
		if _, has := t.Labels[label]; !has {
			t.Labels[label] = value
		}
	}
	fill.Ptr(&j.Spec.Selector, metav1.LabelSelector{})
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, has := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !has {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
}

func generatedLabels(j *batchv1.Job) map[string]string {
	return map[string]string{
		oldNameLabel: j.Name, oldUIDLabel: string(j.UID), batchv1.JobNameLabel: j.Name, batchv1.ControllerUidLabel: string(j.UID),
	}
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func warnName(name string) []string {
	if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs)}
	}
	return nil
}

func warnJob(j, old *batchv1.Job) []string {
	if old == nil {
		return append(warnName(j.Name), warnJobSpec(&j.Spec, field.NewPath("spec"))...)
	}
	if equality.Semantic.DeepEqual(j.Spec, old.Spec) {
		return nil
	}
	return warnJobSpec(&j.Spec, field.NewPath("spec"))
}

func warnJobSpec(s *batchv1.JobSpec, path *field.Path) []string {
	var warnings []string
	completions, parallelism := deref(s.Completions), deref(s.Parallelism)
	if deref(s.CompletionMode) == batchv1.IndexedCompletion && completions > softCompletions && parallelism > softParallelism {
		warnings = append(warnings, fmt.Sprintf("%s: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail", path))
	}
	return append(warnings, core.WarnPodTemplate(&s.Template, path.Child("template"))...)
}

func condition(s *batchv1.JobStatus, t batchv1.JobConditionType, is corev1.ConditionStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == t && c.Status == is {
			return true
		}
	}
	return false
}

func has(s *batchv1.JobStatus, t batchv1.JobConditionType) bool {
	return condition(s, t, corev1.ConditionTrue)
}

func jobColumns() []resource.Column[batchv1.Job] {
	type job = batchv1.Job
	return []resource.Column[job]{
		{Name: "Status", Describe: "Status of the job.", Value: showJobStatus},
		{Name: "Completions", Describe: batchv1.JobStatus{}.SwaggerDoc()["succeeded"], Value: func(j *job) any {
			switch done := j.Status.Succeeded; {
			case j.Spec.Completions != nil:
				return fmt.Sprintf("%d/%d", done, *j.Spec.Completions)
			case deref(j.Spec.Parallelism) > 1:
				return fmt.Sprintf("%d/1 of %d", done, *j.Spec.Parallelism)
			default:
				return fmt.Sprintf("%d/1", done)
			}
		}},
		{Name: "Duration", Describe: "Time required to complete the job.", Value: func(j *job) any {
			switch begin, end := j.Status.StartTime, j.Status.CompletionTime; {
			case begin == nil:
				return ""
			case end == nil:
				return duration.HumanDuration(time.Since(begin.Time))
			default:
				return duration.HumanDuration(end.Sub(begin.Time))
			}
		}},
		show.Age[job](),
		{Name: "Containers", Wide: true, Describe: "Names of each container in the template.", Value: func(j *job) any { return show.Containers(j.Spec.Template.Spec.Containers) }},
		{Name: "Images", Wide: true, Describe: "Images referenced by each container in the template.", Value: func(j *job) any { return show.Images(j.Spec.Template.Spec.Containers) }},
		{Name: "Selector", Wide: true, Describe: batchv1.JobSpec{}.SwaggerDoc()["selector"], Value: func(j *job) any { return metav1.FormatLabelSelector(j.Spec.Selector) }},
	}
}

func showJobStatus(j *batchv1.Job) any {
	for _, t := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed} {
		if has(&j.Status, t) {
			return string(t)
		}
	}
	if j.DeletionTimestamp != nil {
		return "Terminating"
	}
	for _, t := range []batchv1.JobConditionType{batchv1.JobSuspended, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if has(&j.Status, t) {
			return string(t)
		}
	}
	return "Running"
}
