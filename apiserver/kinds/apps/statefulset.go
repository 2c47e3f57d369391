package apps

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scale"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// StatefulSet runs pods that keep their names and their storage.
var StatefulSet = resource.Define(scheme.Types, resource.Spec[appsv1.StatefulSet]{
	Names: resource.Names{
		Group: group, Version: version, Kind: "StatefulSet", Plural: "statefulsets", Short: []string{"sts"}, Categories: []string{"all"},
	},
	Scope:                    resource.Namespaced,
	Default:                  defaultStatefulSet,
	SetStatus:                func(dst, src *appsv1.StatefulSet) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged:              func(s, old *appsv1.StatefulSet) bool { return !equality.Semantic.DeepEqual(s.Spec, old.Spec) },
	Prepare:                  prepareStatefulSet,
	ValidateName:             validation.IsDNS1123Label,
	Validate:                 validateStatefulSet,
	ValidateCreate:           validateStatefulSetCreate,
	ValidateUpdate:           validateStatefulSetUpdate,
	ValidateStatusUpdate:     validateStatefulSetStatus,
	Warnings:                 warnStatefulSet,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[appsv1.StatefulSet]{
		{Name: "Ready", Describe: "Number of the pod with ready state", Value: func(s *appsv1.StatefulSet) any {
			return fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, wished(s.Spec.Replicas))
		}},
		show.Age[appsv1.StatefulSet](),
		{Name: "Containers", Wide: true, Describe: "Names of each container in the template.", Value: func(s *appsv1.StatefulSet) any {
			return show.Containers(s.Spec.Template.Spec.Containers)
		}},
		{Name: "Images", Wide: true, Describe: "Images referenced by each container in the template.", Value: func(s *appsv1.StatefulSet) any {
			return show.Images(s.Spec.Template.Spec.Containers)
		}},
	},
	Subresources: []resource.Subresource{scale.Subresource(group,
		func(o resource.Object) scale.View {
			s := o.(*appsv1.StatefulSet)
			return scale.View{Replicas: s.Spec.Replicas, Current: s.Status.Replicas, Selector: s.Spec.Selector}
		},
		func(o resource.Object, n int32) { o.(*appsv1.StatefulSet).Spec.Replicas = &n },
	)},
})

func defaultStatefulSet(s *appsv1.StatefulSet) {
	spec := &s.Spec
	fill.Zero(&spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	u := &spec.UpdateStrategy
	if u.Type == "" {
		u.Type = appsv1.RollingUpdateStatefulSetStrategyType
		fill.Ptr(&u.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
	}
	if u.Type == appsv1.RollingUpdateStatefulSetStrategyType && u.RollingUpdate != nil {
		fill.Ptr(&u.RollingUpdate.Partition, 0)
	}
	fill.Ptr(&spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	fill.Zero(&spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	fill.Zero(&spec.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	fill.Ptr(&spec.Replicas, 1)
	fill.Ptr(&spec.RevisionHistoryLimit, defaultHistory)
	core.DefaultPodTemplate(&spec.Template)
	for i := range spec.VolumeClaimTemplates {
		c := &spec.VolumeClaimTemplates[i]
		c.APIVersion, c.Kind = "v1", "PersistentVolumeClaim"
		core.PersistentVolumeClaim.Default(c)
	}
}

// prepareStatefulSet leaves out what is an experiment of upstream's that is off by default, and says so.
func prepareStatefulSet(ctx context.Context, s, old *appsv1.StatefulSet) {
	used := old != nil && old.Spec.UpdateStrategy.RollingUpdate != nil && old.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable != nil
	if r := s.Spec.UpdateStrategy.RollingUpdate; r != nil && r.MaxUnavailable != nil && !used {
		r.MaxUnavailable = nil
		request.Warn(ctx, "spec.updateStrategy.rollingUpdate.maxUnavailable: not supported, left out")
	}
}

func validateStatefulSet(s *appsv1.StatefulSet) field.ErrorList {
	path, spec := field.NewPath("spec"), &s.Spec
	var errs field.ErrorList
	switch spec.PodManagementPolicy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	default:
		errs = append(errs, field.Invalid(path.Child("podManagementPolicy"), spec.PodManagementPolicy,
			fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement)))
	}
	errs = append(errs, validateStatefulSetStrategy(&spec.UpdateStrategy, path.Child("updateStrategy"))...)
	if p, at := spec.PersistentVolumeClaimRetentionPolicy, path.Child("persistentVolumeClaimRetentionPolicy"); p != nil {
		known := []appsv1.PersistentVolumeClaimRetentionPolicyType{appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType}
		errs = append(errs, check.Among(p.WhenDeleted, at.Child("whenDeleted"), known...)...)
		errs = append(errs, check.Among(p.WhenScaled, at.Child("whenScaled"), known...)...)
	}
	errs = append(errs, check.NonNegative(wished(spec.Replicas), path.Child("replicas"))...)
	errs = append(errs, check.NonNegative(spec.MinReadySeconds, path.Child("minReadySeconds"))...)
	if o := spec.Ordinals; o != nil {
		errs = append(errs, check.NonNegative(o.Start, path.Child("ordinals.start"))...)
	}
	return append(errs, validateStatefulSetTemplate(spec, path)...)
}

// validateStatefulSetTemplate checks the selector and what it must select. Claims made from templates count as the
// pods' volumes, and the controller, not the template, decides on names in the DNS.
func validateStatefulSetTemplate(spec *appsv1.StatefulSetSpec, path *field.Path) field.ErrorList {
	errs := requireSelector(spec.Selector, "statefulset", path.Child("selector"))
	at := path.Child("template")
	matcher, err := metav1.LabelSelectorAsSelector(spec.Selector)
	if err != nil {
		errs = append(errs, field.Invalid(path.Child("selector"), spec.Selector, ""))
	} else {
		t := spec.Template.DeepCopy()
		t.Spec.Subdomain, t.Spec.Hostname = "", ""
		for _, c := range spec.VolumeClaimTemplates {
			t.Spec.Volumes = slices.DeleteFunc(t.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == c.Name })
			t.Spec.Volumes = append(t.Spec.Volumes, corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.Name},
			}})
		}
		if !matcher.Empty() && !matcher.Matches(labels.Set(t.Labels)) {
			errs = append(errs, field.Invalid(at.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
		}
		errs = append(errs, core.ValidatePodTemplate(t, at)...)
	}
	return append(errs, runsForEver(&spec.Template, "StatefulSet", at)...)
}

func validateStatefulSetStrategy(u *appsv1.StatefulSetUpdateStrategy, at *field.Path) field.ErrorList {
	rolling := at.Child("rollingUpdate")
	switch u.Type {
	case appsv1.OnDeleteStatefulSetStrategyType:
		if u.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(rolling, u.RollingUpdate, fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
	default:
		return field.ErrorList{field.Invalid(at, u, fmt.Sprintf("must be '%s' or '%s'", appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
	}
	r := u.RollingUpdate
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if r.Partition != nil {
		errs = append(errs, check.NonNegative(*r.Partition, rolling.Child("partition"))...)
	}
	if most := r.MaxUnavailable; most != nil {
		at := rolling.Child("maxUnavailable")
		errs = append(errs, check.Portion(*most, at)...)
		n, percent := check.Amount(*most)
		if n == 0 {
			errs = append(errs, field.Invalid(at, *most, "cannot be 0"))
		}
		if percent && n > 100 {
			errs = append(errs, field.Invalid(at, *most, "must not be greater than 100%"))
		}
	}
	return errs
}

func validateStatefulSetCreate(s *appsv1.StatefulSet) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	for i, c := range s.Spec.VolumeClaimTemplates {
		errs = append(errs, core.ValidateClaimSpec(&c.Spec, path.Child("volumeClaimTemplates").Index(i).Child("spec"))...)
	}
	if name := s.Spec.ServiceName; name != "" {
		errs = append(errs, check.DNSLabel(name, path.Child("serviceName"))...)
	}
	return errs
}

func validateStatefulSetUpdate(s, old *appsv1.StatefulSet) field.ErrorList {
	now, was := s.Spec, old.Spec
	now.Replicas, now.Template, now.UpdateStrategy, now.MinReadySeconds, now.Ordinals = was.Replicas, was.Template, was.UpdateStrategy, was.MinReadySeconds, was.Ordinals
	now.RevisionHistoryLimit, now.PersistentVolumeClaimRetentionPolicy = was.RevisionHistoryLimit, was.PersistentVolumeClaimRetentionPolicy
	if equality.Semantic.DeepEqual(now, was) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec"), "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "+
		"'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden")}
}

func validateStatefulSetStatus(s, old *appsv1.StatefulSet) field.ErrorList {
	path, st := field.NewPath("status"), &s.Status
	errs := counts(path, map[string]int64{
		"replicas": int64(st.Replicas), "readyReplicas": int64(st.ReadyReplicas), "currentReplicas": int64(st.CurrentReplicas),
		"updatedReplicas": int64(st.UpdatedReplicas), "availableReplicas": int64(st.AvailableReplicas),
		"observedGeneration": st.ObservedGeneration, "collisionCount": wished(st.CollisionCount),
	})
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"readyReplicas", st.ReadyReplicas}, {"currentReplicas", st.CurrentReplicas}, {"updatedReplicas", st.UpdatedReplicas}, {"availableReplicas", st.AvailableReplicas},
	} {
		errs = append(errs, atMost(n.value, st.Replicas, path.Child(n.name), "cannot be greater than status.replicas")...)
	}
	errs = append(errs, atMost(st.AvailableReplicas, st.ReadyReplicas, path.Child("availableReplicas"), "cannot be greater than status.readyReplicas")...)
	return append(errs, neverFewer(st.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

func warnStatefulSet(s, old *appsv1.StatefulSet) []string {
	path := field.NewPath("spec")
	var warnings []string
	if old == nil || !equality.Semantic.DeepEqual(s.Spec, old.Spec) {
		warnings = core.WarnPodTemplate(&s.Spec.Template, path.Child("template"))
	}
	for i, c := range s.Spec.VolumeClaimTemplates {
		at := path.Child("volumeClaimTemplates").Index(i)
		if old != nil {
			at = at.Child("Spec") // upstream's words
		}
		warnings = append(warnings, core.WarnClaimSpec(&c.Spec, at)...)
	}
	if n := s.Spec.RevisionHistoryLimit; n != nil && *n < 0 {
		warnings = append(warnings, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return warnings
}
