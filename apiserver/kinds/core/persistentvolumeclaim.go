package core

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// PersistentVolumeClaim asks for a piece of storage and holds it.
var PersistentVolumeClaim = resource.Define(scheme.Types, resource.Spec[corev1.PersistentVolumeClaim]{
	Names: resource.Names{Version: "v1", Kind: "PersistentVolumeClaim", Plural: "persistentvolumeclaims", Short: []string{"pvc"}},
	Scope: resource.Namespaced,
	Default: func(c *corev1.PersistentVolumeClaim) {
		fill.Zero(&c.Status.Phase, corev1.ClaimPending)
		DefaultClaimSpec(&c.Spec)
		roundToMilli(c.Status.Capacity)
		roundToMilli(c.Status.AllocatedResources)
	},
	SetStatus: func(dst, src *corev1.PersistentVolumeClaim) { src.Status.DeepCopyInto(&dst.Status) },
	Prepare: func(_ context.Context, c, old *corev1.PersistentVolumeClaim) {
		if old == nil {
			c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
		}
		prepareDataSource(&c.Spec, old)
	},
	Validate: func(c *corev1.PersistentVolumeClaim) field.ErrorList {
		return ValidateClaimSpec(&c.Spec, field.NewPath("spec"))
	},
	ValidateUpdate:       validateClaimUpdate,
	ValidateStatusUpdate: validateClaimStatus,
	Warnings: func(c, _ *corev1.PersistentVolumeClaim) []string {
		var warnings []string
		if _, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
			warnings = append(warnings, fmt.Sprintf(`%s: deprecated since v1.8; use "storageClassName" attribute instead`,
				field.NewPath("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation)))
		}
		return append(warnings, WarnClaimSpec(&c.Spec, field.NewPath("spec"))...)
	},
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Fields: map[string]func(*corev1.PersistentVolumeClaim) string{
		"name": func(c *corev1.PersistentVolumeClaim) string { return c.Name }, // upstream's slip, which clients rely on
	},
	Columns: claimColumns(),
})

// DefaultClaimSpec fills what a claim leaves out.
func DefaultClaimSpec(s *corev1.PersistentVolumeClaimSpec) {
	fill.Ptr(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundToMilli(s.Resources.Limits)
	roundToMilli(s.Resources.Requests)
}

// prepareDataSource keeps the two ways to name what a volume begins with alike. The old one is for claims and snapshots
// alone: anything else in it was always dropped.
func prepareDataSource(s *corev1.PersistentVolumeClaimSpec, old *corev1.PersistentVolumeClaim) {
	// Naming another namespace is an alpha feature of upstream's, which drops the field.
	if ref := s.DataSourceRef; ref != nil && deref(ref.Namespace) != "" && (old == nil || old.Spec.DataSourceRef == nil) {
		s.DataSourceRef = nil
	}
	had := old != nil && (old.Spec.DataSource != nil || old.Spec.DataSourceRef != nil)
	if d := s.DataSource; d != nil && !had && s.DataSourceRef == nil {
		claim := d.Kind == "PersistentVolumeClaim" && deref(d.APIGroup) == ""
		snapshot := d.Kind == "VolumeSnapshot" && deref(d.APIGroup) == "snapshot.storage.k8s.io"
		if !claim && !snapshot {
			s.DataSource = nil
		}
	}
	switch d, ref := s.DataSource, s.DataSourceRef; {
	case d != nil && ref == nil:
		s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: clone(d.APIGroup), Kind: d.Kind, Name: d.Name}
	case d == nil && ref != nil && deref(ref.Namespace) == "":
		s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: clone(ref.APIGroup), Kind: ref.Kind, Name: ref.Name}
	}
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// ValidateClaimSpec returns what is wrong with a claim.
func ValidateClaimSpec(s *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	errs := validateAccessModes(s.AccessModes, "at least 1 access mode is required", at.Child("accessModes"))
	errs = append(errs, check.Selector(s.Selector, at.Child("selector"))...)
	size := at.Child("resources").Key(string(corev1.ResourceStorage))
	if q, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(size, ""))
	} else if q.Sign() <= 0 {
		errs = append(errs, field.Invalid(size, q.String(), "must be greater than zero"))
	}
	if class := s.StorageClassName; class != nil && *class != "" {
		errs = append(errs, check.Subdomain(*class, at.Child("storageClassName"))...)
	}
	errs = append(errs, validateVolumeMode(s.VolumeMode, at.Child("volumeMode"))...)
	errs = append(errs, validateDataSource(s, at)...)
	if class := s.VolumeAttributesClassName; class != nil && *class != "" {
		errs = append(errs, check.Subdomain(*class, at.Child("volumeAttributesClassName"))...)
	}
	return errs
}

func validateDataSource(s *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	one := func(group *string, kind, name string, at *field.Path) {
		errs = append(errs, required(name, at.Child("name"))...)
		errs = append(errs, required(kind, at.Child("kind"))...)
		if g := deref(group); g != "" {
			errs = append(errs, check.Subdomain(g, at.Child("apiGroup"))...)
		} else if kind != "PersistentVolumeClaim" {
			errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
		}
	}
	d, ref := s.DataSource, s.DataSourceRef
	if d != nil {
		one(d.APIGroup, d.Kind, d.Name, at.Child("dataSource"))
	}
	if ref == nil {
		return errs
	}
	one(ref.APIGroup, ref.Kind, ref.Name, at.Child("dataSourceRef"))
	elsewhere := deref(ref.Namespace) != ""
	if elsewhere {
		errs = append(errs, check.DNSLabel(*ref.Namespace, at.Child("dataSourceRef", "namespace"))...)
	}
	switch {
	case d == nil:
	case elsewhere:
		errs = append(errs, field.Invalid(at, at.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified"))
	case deref(d.APIGroup) != deref(ref.APIGroup) || d.Kind != ref.Kind || d.Name != ref.Name:
		errs = append(errs, field.Invalid(at, at.Child("dataSource"), "must match dataSourceRef"))
	}
	return errs
}

// validateClaimUpdate keeps a claim as it is, but for: its volume's name and its class, once; its size and attributes
// while it is bound.
func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	var errs field.ErrorList
	now, was := c.Spec.DeepCopy(), old.Spec.DeepCopy()
	if was.VolumeName == "" {
		was.VolumeName = now.VolumeName
	}
	annotation, hadAnnotation := old.Annotations[corev1.BetaStorageClassAnnotation]
	renamed, hasAnnotation := c.Annotations[corev1.BetaStorageClassAnnotation]
	classOnce := was.StorageClassName == nil && now.StorageClassName != nil && (!hadAnnotation || *now.StorageClassName == annotation)
	if moved := hadAnnotation && classOnce && (!hasAnnotation || renamed == annotation); !moved && renamed != annotation {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation), renamed, "field is immutable"))
	}
	if classOnce {
		now.StorageClassName = nil
	}
	if c.Status.Phase == corev1.ClaimBound {
		now.VolumeAttributesClassName = was.VolumeAttributesClassName
		if now.Resources.Requests != nil {
			now.Resources.Requests[corev1.ResourceStorage] = was.Resources.Requests[corev1.ResourceStorage]
		}
	}
	spec := field.NewPath("spec")
	if !equality.Semantic.DeepEqual(now, was) {
		errs = append(errs, field.Forbidden(spec, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"))
	}
	size, oldSize, real := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage], old.Status.Capacity[corev1.ResourceStorage]
	if size.Cmp(oldSize) < 0 && size.Cmp(real) <= 0 {
		errs = append(errs, field.Forbidden(spec.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, check.Immutable(c.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Status.CurrentVolumeAttributesClassName != nil && !equality.Semantic.DeepEqual(c.Spec.VolumeAttributesClassName, old.Spec.VolumeAttributesClassName) {
		const never = "update to %s is forbidden when status.currentVolumeAttributesClassName is not nil"
		if class := c.Spec.VolumeAttributesClassName; class == nil {
			errs = append(errs, field.Forbidden(spec.Child("volumeAttributesClassName"), fmt.Sprintf(never, "nil")))
		} else if *class == "" {
			errs = append(errs, field.Forbidden(spec.Child("volumeAttributesClassName"), fmt.Sprintf(never, "empty string")))
		}
	}
	return errs
}

func validateClaimStatus(c, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	path := field.NewPath("status")
	var errs field.ErrorList
	if len(c.Spec.AccessModes) == 0 {
		errs = append(errs, field.Required(field.NewPath("Spec", "accessModes"), ""))
	}
	for name, q := range c.Status.Capacity {
		if q.Value() < 0 {
			errs = append(errs, field.Invalid(path.Child("capacity").Key(string(name)), q.Value(), "must be a valid resource quantity"))
		}
	}
	statuses := path.Child("allocatedResourceStatuses")
	for _, name := range slices.Sorted(maps.Keys(c.Status.AllocatedResourceStatuses)) {
		errs = append(errs, validateClaimResource(name, statuses)...)
		switch c.Status.AllocatedResourceStatuses[name] {
		case corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
			corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible:
		default:
			errs = append(errs, field.NotSupported(statuses, name, []corev1.ClaimResourceStatus{
				corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
				corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible,
			}))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Status.AllocatedResources)) {
		at := path.Child("allocatedResources")
		if bad := validateClaimResource(name, at); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		if q := c.Status.AllocatedResources[name]; q.Value() < 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), q.Value(), "must be a valid resource quantity"))
		}
	}
	return errs
}

func validateClaimResource(name corev1.ResourceName, at *field.Path) field.ErrorList {
	if errs := check.QualifiedName(string(name), at); len(errs) > 0 {
		return errs
	}
	if native(name) && name != corev1.ResourceStorage {
		return field.ErrorList{field.NotSupported(at, name, []corev1.ResourceName{corev1.ResourceStorage})}
	}
	return nil
}

// WarnClaimSpec returns what deserves a warning in a claim that lies at path.
func WarnClaimSpec(s *corev1.PersistentVolumeClaimSpec, at *field.Path) []string {
	var warnings []string
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
	}{{"requests", s.Resources.Requests}, {"limits", s.Resources.Limits}} {
		if q := list.of[corev1.ResourceStorage]; q.MilliValue()%1000 != 0 {
			warnings = append(warnings, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer",
				at.Child("resources", list.name).Key(string(corev1.ResourceStorage)), q.String()))
		}
	}
	return warnings
}

func claimColumns() []resource.Column[corev1.PersistentVolumeClaim] {
	type pvc = corev1.PersistentVolumeClaim
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	bound := func(c *pvc, cell string) any {
		if c.Spec.VolumeName == "" {
			return ""
		}
		return cell
	}
	return []resource.Column[pvc]{
		{Name: "Status", Describe: status["phase"], Value: func(c *pvc) any { return show.Phase(c, string(c.Status.Phase)) }},
		{Name: "Volume", Describe: spec["volumeName"], Value: func(c *pvc) any { return c.Spec.VolumeName }},
		{Name: "Capacity", Describe: status["capacity"], Value: func(c *pvc) any { q := c.Status.Capacity[corev1.ResourceStorage]; return bound(c, q.String()) }},
		{Name: "Access Modes", Describe: status["accessModes"], Value: func(c *pvc) any { return bound(c, showModes(c.Status.AccessModes)) }},
		{Name: "StorageClass", Describe: "StorageClass of the pvc", Value: func(c *pvc) any {
			if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
				return class
			}
			return deref(c.Spec.StorageClassName)
		}},
		{Name: "VolumeAttributesClass", Describe: "VolumeAttributesClass of the pvc", Value: func(c *pvc) any { return show.Set(c.Spec.VolumeAttributesClassName) }},
		show.Age[pvc](),
		{Name: "VolumeMode", Wide: true, Describe: spec["volumeMode"], Value: func(c *pvc) any { return show.Set(c.Spec.VolumeMode) }},
	}
}
