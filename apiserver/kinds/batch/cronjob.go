package batch

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// CronJob makes a Job whenever its schedule says so.
var CronJob = resource.Define(scheme.Types, resource.Spec[batchv1.CronJob]{
	Names: resource.Names{
		Group: group, Version: version, Kind: "CronJob", Plural: "cronjobs", Short: []string{"cj"}, Categories: []string{"all"},
	},
	Scope: resource.Namespaced,
	Default: func(c *batchv1.CronJob) {
		fill.Zero(&c.Spec.ConcurrencyPolicy, batchv1.AllowConcurrent)
		fill.Ptr(&c.Spec.Suspend, false)
		fill.Ptr(&c.Spec.SuccessfulJobsHistoryLimit, 3)
		fill.Ptr(&c.Spec.FailedJobsHistoryLimit, 1)
		defaultJobTemplate(&c.Spec.JobTemplate.Spec)
	},
	SetStatus:                func(dst, src *batchv1.CronJob) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged:              func(c, old *batchv1.CronJob) bool { return !equality.Semantic.DeepEqual(c.Spec, old.Spec) },
	Validate:                 validateCronJob,
	ValidateCreate:           validateCronJobCreate,
	ValidateUpdate:           validateCronJobUpdate,
	Warnings:                 warnCronJob,
	AllowUnconditionalUpdate: true,
	Columns:                  cronJobColumns(),
})

func validateCronJob(c *batchv1.CronJob) field.ErrorList {
	path, s := field.NewPath("spec"), &c.Spec
	var errs field.ErrorList
	if s.Schedule == "" {
		errs = append(errs, field.Required(path.Child("schedule"), ""))
	} else if err := parseSchedule(s.Schedule); err != nil {
		errs = append(errs, field.Invalid(path.Child("schedule"), s.Schedule, err.Error()))
	}
	errs = append(errs, check.NonNegative(deref(s.StartingDeadlineSeconds), path.Child("startingDeadlineSeconds"))...)
	errs = append(errs, check.OneOf(s.ConcurrencyPolicy, path.Child("concurrencyPolicy"), batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)...)
	template := path.Child("jobTemplate", "spec")
	errs = append(errs, validateJobSpec(&s.JobTemplate.Spec, template)...)
	if s.JobTemplate.Spec.Selector != nil {
		errs = append(errs, field.Invalid(template.Child("selector"), s.JobTemplate.Spec.Selector, "`selector` will be auto-generated"))
	}
	if deref(s.JobTemplate.Spec.ManualSelector) {
		errs = append(errs, field.NotSupported(template.Child("manualSelector"), s.JobTemplate.Spec.ManualSelector, []string{"nil", "false"}))
	}
	errs = append(errs, check.NonNegative(deref(s.SuccessfulJobsHistoryLimit), path.Child("successfulJobsHistoryLimit"))...)
	return append(errs, check.NonNegative(deref(s.FailedJobsHistoryLimit), path.Child("failedJobsHistoryLimit"))...)
}

// parseSchedule reads a schedule. The parser is known to panic on some that are no schedules.
func parseSchedule(text string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("invalid schedule format: %v", r)
		}
	}()
	_, err = cron.ParseStandard(text)
	return err
}

func validateCronJobCreate(c *batchv1.CronJob) field.ErrorList {
	// The names of a CronJob's Jobs end in the time, and a Job's name is a label of its pods.
	const longest = 52
	var errs field.ErrorList
	if len(c.Name) > longest {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, fmt.Sprintf("must be no more than %d characters", longest)))
	}
	errs = append(errs, validateZoneInSchedule(c, false)...)
	return append(errs, validateTimeZone(c.Spec.TimeZone, field.NewPath("spec", "timeZone"))...)
}

func validateCronJobUpdate(c, old *batchv1.CronJob) field.ErrorList {
	errs := validateZoneInSchedule(c, strings.Contains(old.Spec.Schedule, "TZ"))
	if !equality.Semantic.DeepEqual(c.Spec.TimeZone, old.Spec.TimeZone) {
		errs = append(errs, validateTimeZone(c.Spec.TimeZone, field.NewPath("spec", "timeZone"))...)
	}
	return errs
}

// validateZoneInSchedule wants the time zone in its own field, except in objects that always had it in the schedule.
func validateZoneInSchedule(c *batchv1.CronJob, had bool) field.ErrorList {
	path, schedule := field.NewPath("spec", "schedule"), c.Spec.Schedule
	switch {
	case !strings.Contains(schedule, "TZ"):
	case !had:
		return field.ErrorList{field.Invalid(path, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")}
	case c.Spec.TimeZone != nil:
		return field.ErrorList{field.Invalid(path, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule")}
	}
	return nil
}

// zonePart is one segment of a time zone's name: such names become paths of files.
var zonePart = regexp.MustCompile(`^[A-Za-z._0-9+][A-Za-z.\-_0-9+]{0,13}$`)

func validateTimeZone(zone *string, path *field.Path) field.ErrorList {
	if zone == nil {
		return nil
	}
	if *zone == "" {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be nil or non-empty string")}
	}
	for part := range strings.SplitSeq(*zone, "/") {
		if part == "." || part == ".." || !zonePart.MatchString(part) {
			return field.ErrorList{field.Invalid(path, zone, "unknown time zone "+*zone)}
		}
	}
	var errs field.ErrorList
	if strings.EqualFold(*zone, "Local") {
		errs = append(errs, field.Invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
	}
	if _, err := time.LoadLocation(*zone); err != nil {
		errs = append(errs, field.Invalid(path, zone, err.Error()))
	}
	return errs
}

func warnCronJob(c, old *batchv1.CronJob) []string {
	path := field.NewPath("spec", "jobTemplate", "spec")
	if old == nil {
		return append(warnName(c.Name), warnJobSpec(&c.Spec.JobTemplate.Spec, path)...)
	}
	var warnings []string
	if !equality.Semantic.DeepEqual(c.Spec, old.Spec) {
		warnings = warnJobSpec(&c.Spec.JobTemplate.Spec, path)
	}
	if strings.Contains(c.Spec.Schedule, "TZ") {
		warnings = append(warnings, "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
	}
	return warnings
}

func cronJobColumns() []resource.Column[batchv1.CronJob] {
	type cj = batchv1.CronJob
	spec, status := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	return []resource.Column[cj]{
		{Name: "Schedule", Describe: spec["schedule"], Value: func(c *cj) any { return c.Spec.Schedule }},
		{Name: "Timezone", Describe: spec["timeZone"], Value: func(c *cj) any {
			if c.Spec.TimeZone == nil {
				return show.None
			}
			return *c.Spec.TimeZone
		}},
		{Name: "Suspend", Type: "boolean", Describe: spec["suspend"], Value: func(c *cj) any { return show.Bool(c.Spec.Suspend) }},
		{Name: "Active", Type: "integer", Describe: status["active"], Value: func(c *cj) any { return int64(len(c.Status.Active)) }},
		{Name: "Last Schedule", Describe: status["lastScheduleTime"], Value: func(c *cj) any {
			if c.Status.LastScheduleTime == nil {
				return show.None
			}
			return show.Since(c.Status.LastScheduleTime.Time)
		}},
		show.Age[cj](),
		{Name: "Containers", Wide: true, Describe: "Names of each container in the template.", Value: func(c *cj) any { return show.Containers(c.Spec.JobTemplate.Spec.Template.Spec.Containers) }},
		{Name: "Images", Wide: true, Describe: "Images referenced by each container in the template.", Value: func(c *cj) any { return show.Images(c.Spec.JobTemplate.Spec.Template.Spec.Containers) }},
		{Name: "Selector", Wide: true, Describe: batchv1.JobSpec{}.SwaggerDoc()["selector"], Value: func(c *cj) any { return metav1.FormatLabelSelector(c.Spec.JobTemplate.Spec.Selector) }},
	}
}
