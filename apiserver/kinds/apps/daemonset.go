package apps

import (
	"context"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// DaemonSet runs one pod on every node that it selects.
var DaemonSet = resource.Define(scheme.Types, resource.Spec[appsv1.DaemonSet]{
	Names: resource.Names{
		Group: group, Version: version, Kind: "DaemonSet", Plural: "daemonsets", Short: []string{"ds"}, Categories: []string{"all"},
	},
	Scope:     resource.Namespaced,
	Default:   defaultDaemonSet,
	SetStatus: func(dst, src *appsv1.DaemonSet) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged: func(d, old *appsv1.DaemonSet) bool {
		return !equality.Semantic.DeepEqual(d.Spec, old.Spec) || templateGeneration(d) != templateGeneration(old)
	},
	Prepare:                  prepareDaemonSet,
	Validate:                 validateDaemonSet,
	ValidateUpdate:           validateDaemonSetUpdate,
	ValidateStatusUpdate:     validateDaemonSetStatus,
	AllowUnconditionalUpdate: true,
	Warnings: func(d, old *appsv1.DaemonSet) []string {
		if old != nil && equality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
			return nil
		}
		return core.WarnPodTemplate(&d.Spec.Template, field.NewPath("spec", "template"))
	},
	Columns: daemonSetColumns(),
})

func defaultDaemonSet(d *appsv1.DaemonSet) {
	u := &d.Spec.UpdateStrategy
	fill.Zero(&u.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if u.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		fill.Ptr(&u.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		fill.Ptr(&u.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		fill.Ptr(&u.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	fill.Ptr(&d.Spec.RevisionHistoryLimit, defaultHistory)
	core.DefaultPodTemplate(&d.Spec.Template)
}

// templateGeneration counts the changes of the template. It once was a field and lives on as an annotation.
func templateGeneration(d *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// prepareDaemonSet takes the count of the template's changes out of the user's hands.
func prepareDaemonSet(_ context.Context, d, old *appsv1.DaemonSet) {
	n := templateGeneration(d)
	switch {
	case old == nil:
		n = max(n, 1)
	case equality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template):
		n = templateGeneration(old)
	default:
		n = templateGeneration(old) + 1
	}
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(n, 10)
}

func validateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	path, s := field.NewPath("spec"), &d.Spec
	at := path.Child("template")
	errs := check.Selector(s.Selector, path.Child("selector"))
	if matcher, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !matcher.Matches(labels.Set(s.Template.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`"))
	}
	if s.Selector != nil && len(s.Selector.MatchLabels)+len(s.Selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(path.Child("selector"), s.Selector, "empty selector is invalid for daemonset"))
	}
	errs = append(errs, core.ValidatePodTemplate(&s.Template, at)...)
	errs = append(errs, runsForEver(&s.Template, "DaemonSet", at)...)
	errs = append(errs, check.NonNegative(s.MinReadySeconds, path.Child("minReadySeconds"))...)
	errs = append(errs, validateDaemonSetStrategy(&s.UpdateStrategy, path.Child("updateStrategy"))...)
	return append(errs, check.NonNegative(wished(s.RevisionHistoryLimit), path.Child("revisionHistoryLimit"))...)
}

func validateDaemonSetStrategy(u *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch u.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
	default:
		return field.ErrorList{field.NotSupported(path, u, []appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType})}
	}
	at, r := path.Child("rollingUpdate"), u.RollingUpdate
	if r == nil || r.MaxUnavailable == nil || r.MaxSurge == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	numbers := map[string]int{}
	for _, v := range []struct {
		name  string
		value intstr.IntOrString
	}{{"maxUnavailable", *r.MaxUnavailable}, {"maxSurge", *r.MaxSurge}} {
		errs = append(errs, check.Portion(v.value, at.Child(v.name))...)
		n, percent := check.Amount(v.value)
		if percent && n > 100 {
			errs = append(errs, field.Invalid(at.Child(v.name), v.value, "must not be greater than 100%"))
		}
		numbers[v.name] = n
	}
	switch gone, more := numbers["maxUnavailable"] != 0, numbers["maxSurge"] != 0; {
	case gone && more:
		errs = append(errs, field.Invalid(at.Child("maxSurge"), r.MaxSurge, "may not be set when maxUnavailable is non-zero"))
	case !gone && !more:
		errs = append(errs, field.Required(at.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

func validateDaemonSetUpdate(d, old *appsv1.DaemonSet) field.ErrorList {
	return check.Immutable(d.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))
}

func validateDaemonSetStatus(d, old *appsv1.DaemonSet) field.ErrorList {
	path, s := field.NewPath("status"), &d.Status
	errs := counts(path, map[string]int64{
		"currentNumberScheduled": int64(s.CurrentNumberScheduled), "numberMisscheduled": int64(s.NumberMisscheduled),
		"desiredNumberScheduled": int64(s.DesiredNumberScheduled), "numberReady": int64(s.NumberReady), "observedGeneration": s.ObservedGeneration,
		"updatedNumberScheduled": int64(s.UpdatedNumberScheduled), "numberAvailable": int64(s.NumberAvailable),
		"numberUnavailable": int64(s.NumberUnavailable), "collisionCount": wished(s.CollisionCount),
	})
	return append(errs, neverFewer(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

func daemonSetColumns() []resource.Column[appsv1.DaemonSet] {
	type ds = appsv1.DaemonSet
	status := appsv1.DaemonSetStatus{}.SwaggerDoc()
	return []resource.Column[ds]{
		{Name: "Desired", Type: "integer", Describe: status["desiredNumberScheduled"], Value: func(d *ds) any { return int64(d.Status.DesiredNumberScheduled) }},
		{Name: "Current", Type: "integer", Describe: status["currentNumberScheduled"], Value: func(d *ds) any { return int64(d.Status.CurrentNumberScheduled) }},
		{Name: "Ready", Type: "integer", Describe: status["numberReady"], Value: func(d *ds) any { return int64(d.Status.NumberReady) }},
		{Name: "Up-to-date", Type: "integer", Describe: status["updatedNumberScheduled"], Value: func(d *ds) any { return int64(d.Status.UpdatedNumberScheduled) }},
		{Name: "Available", Type: "integer", Describe: status["numberAvailable"], Value: func(d *ds) any { return int64(d.Status.NumberAvailable) }},
		{Name: "Node Selector", Describe: corev1.PodSpec{}.SwaggerDoc()["nodeSelector"], Value: func(d *ds) any { return labels.FormatLabels(d.Spec.Template.Spec.NodeSelector) }},
		show.Age[ds](),
		{Name: "Containers", Wide: true, Describe: "Names of each container in the template.", Value: func(d *ds) any { return show.Containers(d.Spec.Template.Spec.Containers) }},
		{Name: "Images", Wide: true, Describe: "Images referenced by each container in the template.", Value: func(d *ds) any { return show.Images(d.Spec.Template.Spec.Containers) }},
		{Name: "Selector", Wide: true, Describe: appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"], Value: func(d *ds) any { return metav1.FormatLabelSelector(d.Spec.Selector) }},
	}
}
