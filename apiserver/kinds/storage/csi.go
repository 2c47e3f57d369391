package storage

import (
	"fmt"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
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

// CSINode says which drivers a node has.
var CSINode = resource.Define(scheme.Types, resource.Spec[storagev1.CSINode]{
	Names:         names("CSINode", "csinodes"),
	Scope:         resource.Cluster,
	Validate:      validateCSINode,
	ReturnDeleted: true,
	ValidateUpdate: func(n, old *storagev1.CSINode) field.ErrorList {
		var errs field.ErrorList
		for _, was := range old.Spec.Drivers {
			for _, now := range n.Spec.Drivers {
				if was.Name == now.Name {
					was.Allocatable, now.Allocatable = nil, nil
					errs = append(errs, check.Immutable(now, was, field.NewPath("spec", "drivers"))...)
				}
			}
		}
		return errs
	},
	Columns: []resource.Column[storagev1.CSINode]{
		{Name: "Drivers", Type: "integer", Describe: "Drivers indicates the number of CSI drivers registered on the node", Value: func(n *storagev1.CSINode) any { return int64(len(n.Spec.Drivers)) }},
		show.Age[storagev1.CSINode](),
	},
})

func validateCSINode(n *storagev1.CSINode) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, d := range n.Spec.Drivers {
		at := field.NewPath("spec", "drivers").Index(i)
		errs = append(errs, core.DriverName(d.Name, at.Child("name"))...)
		if d.NodeID == "" {
			errs = append(errs, field.Required(at.Child("nodeID"), ""))
		}
		if len(d.NodeID) > maxNodeID {
			errs = append(errs, field.Invalid(at.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", maxNodeID)))
		}
		if d.Allocatable != nil {
			errs = append(errs, check.NonNegative(deref(d.Allocatable.Count), at.Child("allocatable", "count"))...)
		}
		if seen.Has(d.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), d.Name))
		}
		seen.Insert(d.Name)
		keys := sets.New[string]()
		for _, key := range d.TopologyKeys {
			if key == "" {
				errs = append(errs, field.Required(at, ""))
			}
			if keys.Has(key) {
				errs = append(errs, field.Duplicate(at, key))
			}
			keys.Insert(key)
			errs = append(errs, check.QualifiedName(key, at)...)
		}
	}
	return errs
}

const secretTokens = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"

// CSIDriver says what a driver needs of the cluster.
var CSIDriver = resource.Define(scheme.Types, resource.Spec[storagev1.CSIDriver]{
	Names: names("CSIDriver", "csidrivers"),
	Scope: resource.Cluster,
	Default: func(d *storagev1.CSIDriver) {
		s := &d.Spec
		fill.Ptr(&s.AttachRequired, true)
		fill.Ptr(&s.PodInfoOnMount, false)
		fill.Ptr(&s.StorageCapacity, false)
		fill.Ptr(&s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
		if len(s.VolumeLifecycleModes) == 0 {
			s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
		}
		fill.Ptr(&s.RequiresRepublish, false)
		fill.Ptr(&s.SELinuxMount, false)
	},
	SpecChanged: func(d, old *storagev1.CSIDriver) bool { return !equality.Semantic.DeepEqual(d.Spec, old.Spec) },
	Validate:    validateDriver,
	ValidateUpdate: func(d, old *storagev1.CSIDriver) field.ErrorList {
		path := field.NewPath("spec")
		errs := check.Immutable(d.Spec.AttachRequired, old.Spec.AttachRequired, path.Child("attachedRequired")) // upstream's spelling
		return append(errs, check.Immutable(d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, path.Child("volumeLifecycleModes"))...)
	},
	Warnings: func(d, old *storagev1.CSIDriver) []string {
		changed := old == nil || !equality.Semantic.DeepEqual(d.Spec.TokenRequests, old.Spec.TokenRequests)
		if changed && len(d.Spec.TokenRequests) > 0 && d.Spec.ServiceAccountTokenInSecrets == nil {
			return []string{secretTokens}
		}
		return nil
	},
	ReturnDeleted: true,
	Columns:       driverColumns(),
})

func validateDriver(d *storagev1.CSIDriver) field.ErrorList {
	path, s := field.NewPath("spec"), &d.Spec
	var errs field.ErrorList
	if p := s.FSGroupPolicy; p != nil {
		errs = append(errs, check.Among(*p, path.Child("fsGroupPolicy"), storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy)...)
	}
	errs = append(errs, validateTokens(s.TokenRequests, path.Child("tokenRequests"))...)
	for _, m := range s.VolumeLifecycleModes {
		errs = append(errs, check.Among(m, path.Child("volumeLifecycleModes"), storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)...)
	}
	if n := s.NodeAllocatableUpdatePeriodSeconds; n != nil && *n < 10 {
		errs = append(errs, field.Invalid(path.Child("nodeAllocatableUpdatePeriodSeconds"), *n, "must be greater than or equal to 10 seconds"))
	}
	if s.ServiceAccountTokenInSecrets != nil && len(s.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(path.Child("serviceAccountTokenInSecrets"), s.ServiceAccountTokenInSecrets, "serviceAccountTokenInSecrets is set but no tokenRequests are specified"))
	}
	return errs
}

func validateTokens(list []storagev1.TokenRequest, path *field.Path) field.ErrorList {
	const shortest, longest = 600, 1 << 32
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, t := range list {
		if seen.Has(t.Audience) {
			errs = append(errs, field.Duplicate(path.Index(i).Child("audience"), t.Audience))
			continue
		}
		seen.Insert(t.Audience)
		at, n := path.Index(i).Child("expirationSeconds"), t.ExpirationSeconds
		if n != nil && *n < shortest {
			errs = append(errs, field.Invalid(at, *n, "may not specify a duration less than 10 minutes"))
		}
		if n != nil && *n > longest {
			errs = append(errs, field.Invalid(at, *n, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	return errs
}

func driverColumns() []resource.Column[storagev1.CSIDriver] {
	type driver = storagev1.CSIDriver
	doc := storagev1.CSIDriverSpec{}.SwaggerDoc()
	return []resource.Column[driver]{
		{Name: "AttachRequired", Type: "boolean", Describe: doc["attachRequired"], Value: func(d *driver) any { return d.Spec.AttachRequired == nil || *d.Spec.AttachRequired }},
		{Name: "PodInfoOnMount", Type: "boolean", Describe: doc["podInfoOnMount"], Value: func(d *driver) any { return deref(d.Spec.PodInfoOnMount) }},
		{Name: "StorageCapacity", Type: "boolean", Describe: doc["storageCapacity"], Value: func(d *driver) any { return deref(d.Spec.StorageCapacity) }},
		{Name: "TokenRequests", Describe: doc["tokenRequests"], Value: func(d *driver) any {
			if d.Spec.TokenRequests == nil {
				return show.Unset
			}
			var audiences []string
			for _, t := range d.Spec.TokenRequests {
				audiences = append(audiences, t.Audience)
			}
			return strings.Join(audiences, ",")
		}},
		{Name: "RequiresRepublish", Type: "boolean", Describe: doc["requiresRepublish"], Value: func(d *driver) any { return deref(d.Spec.RequiresRepublish) }},
		{Name: "Modes", Describe: doc["volumeLifecycleModes"], Value: func(d *driver) any {
			var modes []string
			for _, m := range d.Spec.VolumeLifecycleModes {
				modes = append(modes, string(m))
			}
			return show.Or(strings.Join(modes, ","), show.None)
		}},
		show.Age[driver](),
	}
}

// CSIStorageCapacity says how much of a class there is left in some part of the cluster.
var CSIStorageCapacity = resource.Define(scheme.Types, resource.Spec[storagev1.CSIStorageCapacity]{
	Names: names("CSIStorageCapacity", "csistoragecapacities"),
	Scope: resource.Namespaced,
	Validate: func(c *storagev1.CSIStorageCapacity) field.ErrorList {
		errs := check.Selector(c.NodeTopology, field.NewPath("nodeTopology"))
		errs = append(errs, check.Subdomain(c.StorageClassName, field.NewPath("storageClassName"))...)
		if q := c.Capacity; q != nil && q.Sign() < 0 {
			errs = append(errs, field.Invalid(field.NewPath("capacity"), q.String(), "must be greater than or equal to 0"))
		}
		return errs
	},
	ValidateUpdate: func(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
		errs := check.Immutable(c.NodeTopology, old.NodeTopology, field.NewPath("nodeTopology"))
		return append(errs, check.Immutable(c.StorageClassName, old.StorageClassName, field.NewPath("storageClassName"))...)
	},
	Warnings: func(c, _ *storagev1.CSIStorageCapacity) []string {
		if c.NodeTopology == nil {
			return nil
		}
		var warnings []string
		for i, e := range c.NodeTopology.MatchExpressions {
			if msg := core.OldNodeLabel(e.Key); msg != "" {
				warnings = append(warnings, fmt.Sprintf("%s: %s is %s", field.NewPath("nodeTopology", "matchExpressions").Index(i).Child("key"), e.Key, msg))
			}
		}
		return warnings
	},
	Columns: []resource.Column[storagev1.CSIStorageCapacity]{
		{Name: "StorageClassName", Describe: storagev1.CSIStorageCapacity{}.SwaggerDoc()["storageClassName"], Value: func(c *storagev1.CSIStorageCapacity) any { return c.StorageClassName }},
		{Name: "Capacity", Describe: storagev1.CSIStorageCapacity{}.SwaggerDoc()["capacity"], Value: func(c *storagev1.CSIStorageCapacity) any {
			if c.Capacity == nil {
				return show.Unset
			}
			return c.Capacity.String()
		}},
	},
})
