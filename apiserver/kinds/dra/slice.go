package dra

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// ResourceSlice says which devices a driver offers, on one node or on many.
var ResourceSlice = resource.Define(scheme.Types, resource.Spec[resourcev1.ResourceSlice]{
	Names:       names("ResourceSlice", "resourceslices"),
	Scope:       resource.Cluster,
	SpecChanged: func(s, old *resourcev1.ResourceSlice) bool { return !equality.Semantic.DeepEqual(s.Spec, old.Spec) },
	Validate:    validateSlice,
	ValidateUpdate: func(s, old *resourcev1.ResourceSlice) field.ErrorList {
		path := field.NewPath("spec")
		errs := check.Immutable(s.Spec.Driver, old.Spec.Driver, path.Child("driver"))
		errs = append(errs, check.Immutable(s.Spec.Pool.Name, old.Spec.Pool.Name, path.Child("pool", "name"))...)
		return append(errs, check.Immutable(s.Spec.NodeName, old.Spec.NodeName, path.Child("nodeName"))...)
	},
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Fields: map[string]func(*resourcev1.ResourceSlice) string{
		"spec.nodeName": func(s *resourcev1.ResourceSlice) string { return deref(s.Spec.NodeName) },
		"spec.driver":   func(s *resourcev1.ResourceSlice) string { return s.Spec.Driver },
	},
	Columns: []resource.Column[resourcev1.ResourceSlice]{
		{Name: "Node", Describe: resourcev1.ResourceSliceSpec{}.SwaggerDoc()["nodeName"], Value: func(s *resourcev1.ResourceSlice) any { return deref(s.Spec.NodeName) }},
		{Name: "Driver", Describe: resourcev1.ResourceSliceSpec{}.SwaggerDoc()["driver"], Value: func(s *resourcev1.ResourceSlice) any { return s.Spec.Driver }},
		{Name: "Pool", Describe: resourcev1.ResourcePool{}.SwaggerDoc()["name"], Value: func(s *resourcev1.ResourceSlice) any { return s.Spec.Pool.Name }},
		show.Age[resourcev1.ResourceSlice](),
	},
})

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func poolName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if len(name) > resourcev1.PoolNameMaxLength {
		errs = append(errs, field.TooLong(at, "", resourcev1.PoolNameMaxLength))
	}
	for part := range strings.SplitSeq(name, "/") {
		errs = append(errs, check.Subdomain(part, at)...)
	}
	return errs
}

func validateSlice(s *resourcev1.ResourceSlice) field.ErrorList {
	path, spec := field.NewPath("spec"), &s.Spec
	errs := core.DriverName(spec.Driver, path.Child("driver"))
	errs = append(errs, poolName(spec.Pool.Name, path.Child("pool", "name"))...)
	if n := spec.Pool.ResourceSliceCount; n <= 0 {
		errs = append(errs, field.Invalid(path.Child("pool", "resourceSliceCount"), n, "must be greater than zero"))
	}
	if n := spec.Pool.Generation; n < 0 {
		errs = append(errs, field.Invalid(path.Child("pool", "generation"), n, "must be greater than or equal to zero"))
	}
	places := 0
	for _, there := range []bool{spec.NodeName != nil, spec.NodeSelector != nil, deref(spec.AllNodes), deref(spec.PerDeviceNodeSelection)} {
		if there {
			places++
		}
	}
	const one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	switch {
	case places == 0:
		errs = append(errs, field.Required(path, one))
	case places > 1:
		errs = append(errs, field.Invalid(path, nil, one))
	}
	if spec.NodeName != nil {
		errs = append(errs, check.Subdomain(*spec.NodeName, path.Child("nodeName"))...)
	}
	if spec.NodeSelector != nil {
		errs = append(errs, core.ValidateNodeSelector(spec.NodeSelector, path.Child("nodeSelector"))...)
	}
	devices := path.Child("devices")
	if n := len(spec.Devices); n > resourcev1.ResourceSliceMaxDevices {
		errs = append(errs, field.TooMany(devices, n, resourcev1.ResourceSliceMaxDevices))
	}
	seen := sets.New[string]()
	for i := range spec.Devices {
		errs = append(errs, uniqueName(spec.Devices[i].Name, seen, devices.Index(i))...)
		errs = append(errs, validateDevice(&spec.Devices[i], devices.Index(i))...)
	}
	return errs
}

func validateDevice(d *resourcev1.Device, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(at, n, "the total number of attributes and capacities must not exceed 32"))
	}
	for name, a := range d.Attributes {
		at := at.Child("attributes").Key(string(name))
		errs = append(errs, memberName(string(name), at)...)
		values := 0
		for _, there := range []bool{a.IntValue != nil, a.BoolValue != nil, a.StringValue != nil, a.VersionValue != nil} {
			if there {
				values++
			}
		}
		if values != 1 {
			errs = append(errs, field.Invalid(at, nil, "exactly one value must be specified"))
		}
	}
	for name := range d.Capacity {
		errs = append(errs, memberName(string(name), at.Child("capacity").Key(string(name)))...)
	}
	if n := len(d.Taints); n > resourcev1.DeviceTaintsMaxLength {
		errs = append(errs, field.TooMany(at.Child("taints"), n, resourcev1.DeviceTaintsMaxLength))
	}
	for i, t := range d.Taints {
		at := at.Child("taints").Index(i)
		errs = append(errs, check.QualifiedName(t.Key, at.Child("key"))...)
		errs = append(errs, check.OneOf(t.Effect, at.Child("effect"), resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone)...)
	}
	return errs
}

// memberName wants a C identifier, with an optional domain before it.
func memberName(name string, at *field.Path) field.ErrorList {
	domain, id, qualified := strings.Cut(name, "/")
	if !qualified {
		domain, id = "", name
	}
	var errs field.ErrorList
	if qualified {
		errs = append(errs, check.Subdomain(domain, at)...)
	}
	if id == "" {
		return append(errs, field.Required(at, "the name must not be empty"))
	}
	return append(errs, check.Each(at, id, validation.IsCIdentifier(id))...)
}
