package batch

import (
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
)

// How much one job may do: what is counted per index has to fit into the status.
const (
	maxIndexedParallelism = 100_000
	maxFailedIndexes      = 100_000
	softCompletions       = 100_000 // more than this, and softParallelism bounds what runs or fails at once
	softParallelism       = 10_000
	maxRules              = 20
	maxExitCodes          = 255
	maxPatterns           = 20
	maxManagedBy          = 63
	maxIndexesBytes       = 64 << 10
)

func validateJob(j *batchv1.Job) field.ErrorList {
	path, s := field.NewPath("spec"), &j.Spec
	errs := validateJobSpec(s, path)
	if s.Selector == nil {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	} else {
		errs = append(errs, check.Selector(s.Selector, path.Child("selector"))...)
	}
	if matcher, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !matcher.Matches(labels.Set(s.Template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`"))
	}
	if indexed(s) && deref(s.Completions) > 0 {
		longest := fmt.Sprintf("%s-%d", j.Name, *s.Completions-1)
		if len(validation.IsDNS1123Label(longest)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+longest))
		}
	}
	return errs
}

// validateGenerated wants a generated selector and labels to be those of this job. Jobs from before labels had domains
// lack two of them.
func validateGenerated(j *batchv1.Job, prefixed bool) field.ErrorList {
	if deref(j.Spec.ManualSelector) || j.Spec.Selector == nil {
		return nil
	}
	want := generatedLabels(j)
	if !prefixed {
		delete(want, batchv1.JobNameLabel)
		delete(want, batchv1.ControllerUidLabel)
	}
	var errs field.ErrorList
	if j.UID == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	at := field.NewPath("spec", "template", "metadata", "labels")
	for label, value := range want {
		if got, ok := j.Spec.Template.Labels[label]; !ok {
			errs = append(errs, field.Required(at.Key(label), fmt.Sprintf("must be '%s'", value)))
		} else if got != value {
			errs = append(errs, field.Invalid(at.Key(label), j.Spec.Template.Labels, fmt.Sprintf("must be '%s'", value)))
		}
	}
	if matcher, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !matcher.Matches(labels.Set(want)) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func indexed(s *batchv1.JobSpec) bool { return deref(s.CompletionMode) == batchv1.IndexedCompletion }

// validateJobSpec checks all but the selector, which the template of a CronJob does not have.
func validateJobSpec(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, n := range []struct {
		name  string
		value *int32
	}{
		{"parallelism", s.Parallelism}, {"completions", s.Completions}, {"backoffLimit", s.BackoffLimit}, {"ttlSecondsAfterFinished", s.TTLSecondsAfterFinished},
		{"backoffLimitPerIndex", s.BackoffLimitPerIndex}, {"maxFailedIndexes", s.MaxFailedIndexes},
	} {
		errs = append(errs, check.NonNegative(deref(n.value), path.Child(n.name))...)
	}
	errs = append(errs, check.NonNegative(deref(s.ActiveDeadlineSeconds), path.Child("activeDeadlineSeconds"))...)
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if by := s.ManagedBy; by != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(path.Child("managedBy"), *by)...)
		if len(*by) > maxManagedBy {
			errs = append(errs, field.TooLong(path.Child("managedBy"), "", maxManagedBy))
		}
	}
	errs = append(errs, validateCompletionMode(s, path)...)
	if s.PodFailurePolicy != nil {
		errs = append(errs, validateFailurePolicy(s, path.Child("podFailurePolicy", "rules"))...)
	}
	if s.SuccessPolicy != nil {
		if at := path.Child("successPolicy"); !indexed(s) {
			errs = append(errs, field.Invalid(at, *s.SuccessPolicy, "requires indexed completion mode"))
		} else if s.Completions != nil {
			errs = append(errs, validateSuccessPolicy(s, at.Child("rules"))...)
		}
	}
	if r := s.PodReplacementPolicy; r != nil {
		allowed := []batchv1.PodReplacementPolicy{batchv1.Failed}
		if s.PodFailurePolicy == nil {
			allowed = append(allowed, batchv1.TerminatingOrFailed)
		}
		errs = append(errs, check.Among(*r, path.Child("podReplacementPolicy"), allowed...)...)
	}
	errs = append(errs, core.ValidatePodTemplate(&s.Template, path.Child("template"))...)
	return append(errs, validateRestart(s, path.Child("template", "spec", "restartPolicy"))...)
}

// validateRestart wants pods that may end.
func validateRestart(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	switch p := s.Template.Spec.RestartPolicy; {
	case p == corev1.RestartPolicyAlways || p == "":
		return field.ErrorList{field.Required(at, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever))}
	case p != corev1.RestartPolicyOnFailure && p != corev1.RestartPolicyNever:
		return field.ErrorList{field.NotSupported(at, p, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever})}
	case s.PodFailurePolicy != nil && p != corev1.RestartPolicyNever:
		return field.ErrorList{field.Invalid(at, p, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever))}
	}
	return nil
}

func validateCompletionMode(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if mode := s.CompletionMode; mode != nil && *mode != batchv1.NonIndexedCompletion && *mode != batchv1.IndexedCompletion {
		return field.ErrorList{field.NotSupported(path.Child("completionMode"), *mode, []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion})}
	}
	var errs field.ErrorList
	if !indexed(s) {
		const indexedOnly = "requires indexed completion mode"
		if s.BackoffLimitPerIndex != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, indexedOnly))
		}
		if s.MaxFailedIndexes != nil {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *s.MaxFailedIndexes, indexedOnly))
		}
		return errs
	}
	if s.Completions == nil {
		errs = append(errs, field.Required(path.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
	}
	most := func(name string, value *int32, limit int32, format string, args ...any) {
		if value != nil && *value > limit {
			errs = append(errs, field.Invalid(path.Child(name), *value, "must be less than or equal to "+fmt.Sprintf(format, args...)))
		}
	}
	most("parallelism", s.Parallelism, maxIndexedParallelism, "%d when completion mode is %s", maxIndexedParallelism, batchv1.IndexedCompletion)
	if s.Completions != nil {
		most("maxFailedIndexes", s.MaxFailedIndexes, *s.Completions, "completions")
	}
	most("maxFailedIndexes", s.MaxFailedIndexes, maxFailedIndexes, "%d", maxFailedIndexes)
	if deref(s.Completions) > softCompletions && s.BackoffLimitPerIndex != nil {
		if s.MaxFailedIndexes == nil {
			errs = append(errs, field.Required(path.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", softCompletions)))
		}
		const above = "%d when completions are above %d and used with backoff limit per index"
		most("parallelism", s.Parallelism, softParallelism, above, softParallelism, softCompletions)
		most("maxFailedIndexes", s.MaxFailedIndexes, softParallelism, above, softParallelism, softCompletions)
	}
	return errs
}

func validateFailurePolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	rules := s.PodFailurePolicy.Rules
	var errs field.ErrorList
	if len(rules) > maxRules {
		errs = append(errs, field.TooMany(path, len(rules), maxRules))
	}
	names := sets.New[string]()
	for _, list := range [][]corev1.Container{s.Template.Spec.Containers, s.Template.Spec.InitContainers} {
		for _, c := range list {
			names.Insert(c.Name)
		}
	}
	for i := range rules {
		errs = append(errs, validateFailureRule(&rules[i], s.BackoffLimitPerIndex != nil, names, path.Index(i))...)
	}
	return errs
}

func validateFailureRule(r *batchv1.PodFailurePolicyRule, perIndex bool, names sets.Set[string], at *field.Path) field.ErrorList {
	actions := []batchv1.PodFailurePolicyAction{
		batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore,
	}
	var errs field.ErrorList
	switch action := at.Child("action"); {
	case r.Action == "":
		errs = append(errs, field.Required(action, fmt.Sprintf("valid values: %q", actions)))
	case r.Action == batchv1.PodFailurePolicyActionFailIndex && !perIndex:
		errs = append(errs, field.Invalid(action, r.Action, "requires the backoffLimitPerIndex to be set"))
	default:
		errs = append(errs, check.Among(r.Action, action, actions...)...)
	}
	if r.OnExitCodes != nil {
		errs = append(errs, validateExitCodes(r.OnExitCodes, names, at.Child("onExitCodes"))...)
	}
	conditions := at.Child("onPodConditions")
	if n := len(r.OnPodConditions); n > maxPatterns {
		errs = append(errs, field.TooMany(conditions, n, maxPatterns))
	}
	for i, p := range r.OnPodConditions {
		errs = append(errs, check.QualifiedName(string(p.Type), conditions.Index(i).Child("type"))...)
		errs = append(errs, check.Among(p.Status, conditions.Index(i).Child("status"), corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown)...)
	}
	switch codes, others := r.OnExitCodes != nil, len(r.OnPodConditions) > 0; {
	case codes && others:
		errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case !codes && !others:
		errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	}
	return errs
}

func validateExitCodes(c *batchv1.PodFailurePolicyOnExitCodesRequirement, names sets.Set[string], path *field.Path) field.ErrorList {
	operators := []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	var errs field.ErrorList
	if c.Operator == "" {
		errs = append(errs, field.Required(path.Child("operator"), fmt.Sprintf("valid values: %q", operators)))
	} else {
		errs = append(errs, check.Among(c.Operator, path.Child("operator"), operators...)...)
	}
	if c.ContainerName != nil && !names.Has(*c.ContainerName) {
		errs = append(errs, field.Invalid(path.Child("containerName"), *c.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	values := path.Child("values")
	if n := len(c.Values); n == 0 {
		errs = append(errs, field.Invalid(values, c.Values, "at least one value is required"))
	} else if n > maxExitCodes {
		errs = append(errs, field.TooMany(values, n, maxExitCodes))
	}
	seen := sets.New[int32]()
	for i, v := range c.Values {
		if c.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && v == 0 {
			errs = append(errs, field.Invalid(values.Index(i), v, "must not be 0 for the In operator"))
		}
		if seen.Has(v) {
			errs = append(errs, field.Duplicate(values.Index(i), v))
		}
		seen.Insert(v)
	}
	if !slices.IsSorted(c.Values) {
		errs = append(errs, field.Invalid(values, c.Values, "must be ordered"))
	}
	return errs
}

func validateSuccessPolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	rules, completions := s.SuccessPolicy.Rules, *s.Completions
	var errs field.ErrorList
	if len(rules) == 0 {
		errs = append(errs, field.Required(path, "at least one rules must be specified when the successPolicy is specified"))
	}
	if len(rules) > maxRules {
		errs = append(errs, field.TooMany(path, len(rules), maxRules))
	}
	for i, r := range rules {
		at, total := path.Index(i), int32(0)
		if r.SucceededCount == nil && r.SucceededIndexes == nil {
			errs = append(errs, field.Required(at, "at least one of succeededCount or succeededIndexes must be specified"))
		}
		if r.SucceededIndexes != nil {
			at := at.Child("succeededIndexes")
			if len(*r.SucceededIndexes) > maxIndexesBytes {
				errs = append(errs, field.TooLong(at, "", maxIndexesBytes))
			}
			list, err := parseIndexes(*r.SucceededIndexes, completions)
			if err != nil {
				errs = append(errs, field.Invalid(at, *r.SucceededIndexes, fmt.Sprintf("error parsing succeededIndexes: %s", err)))
			}
			for _, iv := range list {
				total += iv.last - iv.first + 1
			}
		}
		if n := r.SucceededCount; n != nil {
			at := at.Child("succeededCount")
			errs = append(errs, check.NonNegative(*n, at)...)
			if *n > completions {
				errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
			}
			if r.SucceededIndexes != nil && *n > total {
				errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)))
			}
		}
	}
	return errs
}

func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	path, now, was := field.NewPath("spec"), &j.Spec, &old.Spec
	_, named := was.Template.Labels[batchv1.JobNameLabel]
	_, owned := was.Template.Labels[batchv1.ControllerUidLabel]
	errs := validateGenerated(j, named && owned)
	if at := path.Child("completions"); !indexed(now) {
		errs = append(errs, check.Immutable(now.Completions, was.Completions, at)...)
	} else if now.Completions != nil && deref(now.Completions) != deref(was.Completions) && deref(now.Completions) != deref(now.Parallelism) {
		errs = append(errs, field.Invalid(at, now.Completions, fmt.Sprintf("can only be modified in tandem with %s", at.Root().Child("parallelism"))))
	}
	for _, f := range []struct {
		name     string
		now, was any
	}{
		{"selector", now.Selector, was.Selector}, {"completionMode", now.CompletionMode, was.CompletionMode},
		{"podFailurePolicy", now.PodFailurePolicy, was.PodFailurePolicy}, {"backoffLimitPerIndex", now.BackoffLimitPerIndex, was.BackoffLimitPerIndex},
		{"managedBy", now.ManagedBy, was.ManagedBy}, {"successPolicy", now.SuccessPolicy, was.SuccessPolicy},
	} {
		errs = append(errs, check.Immutable(f.now, f.was, path.Child(f.name))...)
	}
	return append(errs, validateJobTemplateUpdate(j, old, path)...)
}

// validateJobTemplateUpdate keeps the template as it is. While a job is suspended and has no pods, where they go and
// what they get may still change.
func validateJobTemplateUpdate(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	now, was := &j.Spec.Template, &old.Spec.Template
	quiet := deref(old.Spec.Suspend) && old.Status.Active == 0 && (old.Status.StartTime == nil || has(&old.Status, batchv1.JobSuspended))
	if !quiet {
		return check.Immutable(*now, *was, path.Child("template"))
	}
	was = was.DeepCopy()
	adoptScheduling(was, now)
	for _, lists := range [][2][]corev1.Container{{was.Spec.Containers, now.Spec.Containers}, {was.Spec.InitContainers, now.Spec.InitContainers}} {
		for i := range lists[0] {
			if i < len(lists[1]) && lists[0][i].Name == lists[1][i].Name {
				lists[0][i].Resources = lists[1][i].Resources
			}
		}
	}
	return check.Immutable(now.Spec, was.Spec, path.Child("template.spec"))
}

// adoptScheduling takes over what decides on nodes.
func adoptScheduling(into, from *corev1.PodTemplateSpec) {
	a := into.Spec.Affinity
	switch wish := from.Spec.Affinity; {
	case wish == nil && a != nil:
		if a.NodeAffinity = nil; equality.Semantic.DeepEqual(*a, corev1.Affinity{}) {
			into.Spec.Affinity = nil
		}
	case wish != nil && a == nil:
		into.Spec.Affinity = &corev1.Affinity{NodeAffinity: wish.NodeAffinity}
	case wish != nil:
		a.NodeAffinity = wish.NodeAffinity
	}
	into.Spec.NodeSelector, into.Spec.Tolerations, into.Spec.SchedulingGates = from.Spec.NodeSelector, from.Spec.Tolerations, from.Spec.SchedulingGates
	into.Annotations, into.Labels = from.Annotations, from.Labels
}

// interval is a range of indexes, both ends in it.
type interval struct{ first, last int32 }

// parseIndexes reads a text like 1,3-5,7: increasing, below the number of completions.
func parseIndexes(text string, completions int32) ([]interval, error) {
	if text == "" {
		return nil, nil
	}
	var out []interval
	for part := range strings.SplitSeq(text, ",") {
		iv, err := parseInterval(part, completions)
		if err != nil {
			return out, err
		}
		if n := len(out); n > 0 && out[n-1].last >= iv.first {
			return out, fmt.Errorf("non-increasing order, previous: %d, current: %d", out[n-1].last, iv.first)
		}
		out = append(out, iv)
	}
	return out, nil
}
