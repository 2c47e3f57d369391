// Package dra declares the kinds of the group resource.k8s.io: devices, and claims to them.
package dra

import (
	"fmt"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

const group, version = "resource.k8s.io", "v1"

func names(kind, plural string) resource.Names {
	return resource.Names{Group: group, Version: version, Kind: kind, Plural: plural}
}

// DeviceClass names a kind of device that claims can ask for.
var DeviceClass = resource.Define(scheme.Types, resource.Spec[resourcev1.DeviceClass]{
	Names:       names("DeviceClass", "deviceclasses"),
	Scope:       resource.Cluster,
	SpecChanged: func(c, old *resourcev1.DeviceClass) bool { return !equality.Semantic.DeepEqual(c.Spec, old.Spec) },
	Validate: func(c *resourcev1.DeviceClass) field.ErrorList {
		path := field.NewPath("spec")
		errs := validateSelectors(c.Spec.Selectors, path.Child("selectors"))
		if n := len(c.Spec.Config); n > resourcev1.DeviceConfigMaxSize {
			errs = append(errs, field.TooMany(path.Child("config"), n, resourcev1.DeviceConfigMaxSize))
		}
		for i := range c.Spec.Config {
			errs = append(errs, validateConfig(&c.Spec.Config[i].DeviceConfiguration, path.Child("config").Index(i))...)
		}
		return errs
	},
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Columns:                  []resource.Column[resourcev1.DeviceClass]{show.Age[resourcev1.DeviceClass]()},
})

func validateSelectors(list []resourcev1.DeviceSelector, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := len(list); n > resourcev1.DeviceSelectorsMaxSize {
		errs = append(errs, field.TooMany(at, n, resourcev1.DeviceSelectorsMaxSize))
	}
	for i, s := range list {
		at := at.Index(i).Child("cel")
		switch {
		case s.CEL == nil:
			errs = append(errs, field.Required(at, ""))
		case s.CEL.Expression == "":
			errs = append(errs, field.Required(at.Child("expression"), ""))
		case len(s.CEL.Expression) > resourcev1.CELSelectorExpressionMaxLength:
			errs = append(errs, field.TooLong(at.Child("expression"), "", resourcev1.CELSelectorExpressionMaxLength))
		}
	}
	return errs
}

func validateConfig(c *resourcev1.DeviceConfiguration, at *field.Path) field.ErrorList {
	if c.Opaque == nil {
		return field.ErrorList{field.Required(at.Child("opaque"), "")}
	}
	errs := core.DriverName(c.Opaque.Driver, at.Child("opaque", "driver"))
	if n := len(c.Opaque.Parameters.Raw); n == 0 {
		errs = append(errs, field.Required(at.Child("opaque", "parameters"), ""))
	} else if n > resourcev1.OpaqueParametersMaxLength {
		errs = append(errs, field.TooLong(at.Child("opaque", "parameters"), "", resourcev1.OpaqueParametersMaxLength))
	}
	return errs
}

// ResourceClaim asks for devices and holds them.
var ResourceClaim = resource.Define(scheme.Types, resource.Spec[resourcev1.ResourceClaim]{
	Names:     names("ResourceClaim", "resourceclaims"),
	Scope:     resource.Namespaced,
	Default:   func(c *resourcev1.ResourceClaim) { defaultClaim(&c.Spec) },
	SetStatus: func(dst, src *resourcev1.ResourceClaim) { src.Status.DeepCopyInto(&dst.Status) },
	Validate: func(c *resourcev1.ResourceClaim) field.ErrorList {
		return validateClaim(&c.Spec, field.NewPath("spec"))
	},
	ValidateUpdate: func(c, old *resourcev1.ResourceClaim) field.ErrorList {
		return check.Immutable(c.Spec, old.Spec, field.NewPath("spec"))
	},
	ValidateStatusUpdate:     validateClaimStatus,
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[resourcev1.ResourceClaim]{
		{Name: "State", Describe: "A summary of the current state (allocated, pending, reserved, etc.).", Value: showState},
		show.Age[resourcev1.ResourceClaim](),
	},
})

func defaultClaim(s *resourcev1.ResourceClaimSpec) {
	count := func(mode *resourcev1.DeviceAllocationMode, n *int64) {
		fill.Zero(mode, resourcev1.DeviceAllocationModeExactCount)
		if *mode == resourcev1.DeviceAllocationModeExactCount {
			fill.Zero(n, 1)
		}
	}
	for i := range s.Devices.Requests {
		r := &s.Devices.Requests[i]
		if r.Exactly != nil {
			count(&r.Exactly.AllocationMode, &r.Exactly.Count)
			defaultTolerations(r.Exactly.Tolerations)
		}
		for j := range r.FirstAvailable {
			count(&r.FirstAvailable[j].AllocationMode, &r.FirstAvailable[j].Count)
			defaultTolerations(r.FirstAvailable[j].Tolerations)
		}
	}
}

func defaultTolerations(list []resourcev1.DeviceToleration) {
	for i := range list {
		fill.Zero(&list[i].Operator, resourcev1.DeviceTolerationOpEqual)
	}
}

func validateClaim(s *resourcev1.ResourceClaimSpec, path *field.Path) field.ErrorList {
	at := path.Child("devices")
	requests := at.Child("requests")
	var errs field.ErrorList
	if n := len(s.Devices.Requests); n > resourcev1.DeviceRequestsMaxSize {
		errs = append(errs, field.TooMany(requests, n, resourcev1.DeviceRequestsMaxSize))
	}
	known := sets.New[string]()
	for i := range s.Devices.Requests {
		r, at := &s.Devices.Requests[i], requests.Index(i)
		errs = append(errs, uniqueName(r.Name, known, at)...)
		switch exact, first := r.Exactly != nil, len(r.FirstAvailable) > 0; {
		case exact == first:
			errs = append(errs, field.Invalid(at, nil, "exactly one of `exactly` or `firstAvailable` must be specified"))
		case exact:
			errs = append(errs, validateRequest(exactly(r.Exactly), at.Child("exactly"))...)
		default:
			if n := len(r.FirstAvailable); n > resourcev1.FirstAvailableDeviceRequestMaxSize {
				errs = append(errs, field.TooMany(at.Child("firstAvailable"), n, resourcev1.FirstAvailableDeviceRequestMaxSize))
			}
			subs := sets.New[string]()
			for j := range r.FirstAvailable {
				sub, at := &r.FirstAvailable[j], at.Child("firstAvailable").Index(j)
				errs = append(errs, uniqueName(sub.Name, subs, at)...)
				known.Insert(r.Name + "/" + sub.Name)
				errs = append(errs, validateRequest(request{sub.DeviceClassName, sub.Selectors, sub.AllocationMode, sub.Count, sub.Tolerations}, at)...)
			}
		}
	}
	for i, c := range s.Devices.Constraints {
		at := at.Child("constraints").Index(i)
		errs = append(errs, knownRequests(c.Requests, known, at.Child("requests"))...)
		if c.MatchAttribute == nil && c.DistinctAttribute == nil {
			errs = append(errs, field.Required(at.Child("matchAttribute"), ""))
		}
		if c.MatchAttribute != nil {
			errs = append(errs, check.QualifiedName(string(*c.MatchAttribute), at.Child("matchAttribute"))...)
		}
	}
	if n := len(s.Devices.Constraints); n > resourcev1.DeviceConstraintsMaxSize {
		errs = append(errs, field.TooMany(at.Child("constraints"), n, resourcev1.DeviceConstraintsMaxSize))
	}
	if n := len(s.Devices.Config); n > resourcev1.DeviceConfigMaxSize {
		errs = append(errs, field.TooMany(at.Child("config"), n, resourcev1.DeviceConfigMaxSize))
	}
	for i := range s.Devices.Config {
		c, at := &s.Devices.Config[i], at.Child("config").Index(i)
		errs = append(errs, knownRequests(c.Requests, known, at.Child("requests"))...)
		errs = append(errs, validateConfig(&c.DeviceConfiguration, at)...)
	}
	return errs
}

// uniqueName wants a name that no earlier element of its list has.
func uniqueName(name string, seen sets.Set[string], at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		errs = append(errs, check.DNSLabel(name, at.Child("name"))...)
	}
	if seen.Has(name) {
		errs = append(errs, field.Duplicate(at, name))
	}
	seen.Insert(name)
	return errs
}

func knownRequests(list []string, known sets.Set[string], at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, name := range list {
		if !known.Has(name) {
			errs = append(errs, field.Invalid(at.Index(i), name, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
		}
	}
	return errs
}

// request is what exact requests and alternatives share.
type request struct {
	class       string
	selectors   []resourcev1.DeviceSelector
	mode        resourcev1.DeviceAllocationMode
	count       int64
	tolerations []resourcev1.DeviceToleration
}

func exactly(e *resourcev1.ExactDeviceRequest) request {
	return request{e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations}
}

func validateRequest(r request, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.class == "" {
		errs = append(errs, field.Required(at.Child("deviceClassName"), ""))
	} else {
		errs = append(errs, check.Subdomain(r.class, at.Child("deviceClassName"))...)
	}
	errs = append(errs, validateSelectors(r.selectors, at.Child("selectors"))...)
	switch r.mode {
	case resourcev1.DeviceAllocationModeAll:
		if r.count != 0 {
			errs = append(errs, field.Invalid(at.Child("count"), r.count, fmt.Sprintf("must not be specified when allocationMode is '%s'", r.mode)))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if r.count <= 0 {
			errs = append(errs, field.Invalid(at.Child("count"), r.count, "must be greater than zero"))
		}
	default:
		errs = append(errs, check.Among(r.mode, at.Child("allocationMode"), resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount)...)
	}
	for i, t := range r.tolerations {
		at := at.Child("tolerations").Index(i)
		errs = append(errs, check.Among(t.Operator, at.Child("operator"), resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists)...)
		if t.Effect != "" {
			errs = append(errs, check.Among(t.Effect, at.Child("effect"), resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone)...)
		}
	}
	return errs
}

func validateClaimStatus(c, old *resourcev1.ResourceClaim) field.ErrorList {
	path, s := field.NewPath("status"), &c.Status
	var errs field.ErrorList
	reserved := path.Child("reservedFor")
	if n := len(s.ReservedFor); n > resourcev1.ResourceClaimReservedForMaxSize {
		errs = append(errs, field.TooMany(reserved, n, resourcev1.ResourceClaimReservedForMaxSize))
	}
	seen := sets.New[string]()
	for i, r := range s.ReservedFor {
		at := reserved.Index(i)
		for _, f := range []struct{ name, value string }{{"resource", r.Resource}, {"name", r.Name}, {"uid", string(r.UID)}} {
			if f.value == "" {
				errs = append(errs, field.Required(at.Child(f.name), ""))
			}
		}
		if seen.Has(string(r.UID)) {
			errs = append(errs, field.Duplicate(at.Child("uid"), r.UID))
		}
		seen.Insert(string(r.UID))
	}
	switch now, was := s.Allocation, old.Status.Allocation; {
	case now == nil && len(s.ReservedFor) > 0:
		errs = append(errs, field.Forbidden(reserved, "may not be specified when `allocated` is not set"))
	case now != nil && was != nil && !equality.Semantic.DeepEqual(now, was):
		errs = append(errs, field.Invalid(path.Child("allocation"), now, "field is immutable"))
	case now != nil && was == nil && c.DeletionTimestamp != nil:
		errs = append(errs, field.Forbidden(path.Child("allocation"), "new allocations may not be added while `deletionTimestamp` is set"))
	}
	if n := len(s.ReservedFor); n > len(old.Status.ReservedFor) && c.DeletionTimestamp != nil {
		errs = append(errs, field.Forbidden(reserved, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"))
	}
	if a := s.Allocation; a != nil {
		if n := len(a.Devices.Results); n > resourcev1.AllocationResultsMaxSize {
			errs = append(errs, field.TooMany(path.Child("allocation", "devices", "results"), n, resourcev1.AllocationResultsMaxSize))
		}
		for i, r := range a.Devices.Results {
			at := path.Child("allocation", "devices", "results").Index(i)
			errs = append(errs, core.DriverName(r.Driver, at.Child("driver"))...)
			errs = append(errs, poolName(r.Pool, at.Child("pool"))...)
			errs = append(errs, check.DNSLabel(r.Device, at.Child("device"))...)
		}
	}
	return errs
}

func showState(c *resourcev1.ResourceClaim) any {
	state := ""
	add := func(s string) {
		if state != "" {
			state += ","
		}
		state += s
	}
	if c.DeletionTimestamp != nil {
		add("deleted")
	}
	switch {
	case c.Status.Allocation != nil:
		add("allocated")
		if len(c.Status.ReservedFor) > 0 {
			add("reserved")
		}
	case c.DeletionTimestamp == nil:
		add("pending")
	}
	return state
}

// ResourceClaimTemplate is what claims of pods are made of.
var ResourceClaimTemplate = resource.Define(scheme.Types, resource.Spec[resourcev1.ResourceClaimTemplate]{
	Names:   names("ResourceClaimTemplate", "resourceclaimtemplates"),
	Scope:   resource.Namespaced,
	Default: func(t *resourcev1.ResourceClaimTemplate) { defaultClaim(&t.Spec.Spec) },
	Validate: func(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
		return validateClaim(&t.Spec.Spec, field.NewPath("spec", "spec"))
	},
	ValidateUpdate: func(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
		return check.Immutable(t.Spec, old.Spec, field.NewPath("spec"))
	},
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Columns:                  []resource.Column[resourcev1.ResourceClaimTemplate]{show.Age[resourcev1.ResourceClaimTemplate]()},
})
