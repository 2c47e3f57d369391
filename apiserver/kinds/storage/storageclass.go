package storage

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// DefaultClass marks the class of claims that name none. The second is its first name.
const (
	DefaultClass    = "storageclass.kubernetes.io/is-default-class"
	oldDefaultClass = "storageclass.beta.kubernetes.io/is-default-class"
)

// StorageClass says who makes volumes for claims, and how.
var StorageClass = resource.Define(scheme.Types, resource.Spec[storagev1.StorageClass]{
	Names: names("StorageClass", "storageclasses", "sc"),
	Scope: resource.Cluster,
	Default: func(c *storagev1.StorageClass) {
		fill.Ptr(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		fill.Ptr(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
	},
	Validate: func(c *storagev1.StorageClass) field.ErrorList {
		errs := provisioner(c.Provisioner, field.NewPath("provisioner"))
		errs = append(errs, parameters(c.Parameters, true, field.NewPath("parameters"))...)
		if p := deref(c.ReclaimPolicy); p != "" {
			errs = append(errs, check.Among(p, field.NewPath("reclaimPolicy"), corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
		}
		errs = append(errs, check.Among(deref(c.VolumeBindingMode), field.NewPath("volumeBindingMode"), storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
		return append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
	},
	ValidateUpdate: func(c, old *storagev1.StorageClass) field.ErrorList {
		errs := check.Immutable(c.Parameters, old.Parameters, field.NewPath("parameters"))
		errs = append(errs, check.Immutable(c.Provisioner, old.Provisioner, field.NewPath("provisioner"))...)
		errs = append(errs, check.Immutable(c.ReclaimPolicy, old.ReclaimPolicy, field.NewPath("reclaimPolicy"))...)
		return append(errs, check.Immutable(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
	},
	Warnings: func(c, _ *storagev1.StorageClass) []string {
		var warnings []string
		for i, t := range c.AllowedTopologies {
			for j, e := range t.MatchLabelExpressions {
				if msg := core.OldNodeLabel(e.Key); msg != "" {
					warnings = append(warnings, fmt.Sprintf("%s: %s", field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(j).Child("key"), msg))
				}
			}
		}
		return warnings
	},
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Columns:                  classColumns(),
})

// validateTopologies wants terms that differ. A term is a set of labels with a set of values each.
func validateTopologies(terms []corev1.TopologySelectorTerm, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, t := range terms {
		at := path.Index(i).Child("matchLabelExpressions")
		keys := map[string]string{}
		for j, e := range t.MatchLabelExpressions {
			at := at.Index(j)
			if len(e.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), ""))
			}
			values := sets.New[string]()
			for k, v := range e.Values {
				if values.Has(v) {
					errs = append(errs, field.Duplicate(at.Child("values").Index(k), v))
				}
				values.Insert(v)
			}
			errs = append(errs, metav1validation.ValidateLabelName(e.Key, at.Child("key"))...)
			if _, twice := keys[e.Key]; twice {
				errs = append(errs, field.Duplicate(at.Child("key"), e.Key))
			}
			keys[e.Key] = strings.Join(sets.List(values), ",")
		}
		var sum strings.Builder
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			fmt.Fprintf(&sum, "%s in (%s);", key, keys[key])
		}
		if seen.Has(sum.String()) {
			errs = append(errs, field.Duplicate(at, ""))
		}
		seen.Insert(sum.String())
	}
	return errs
}

// IsDefault says that a class is marked as the default.
func IsDefault(c *storagev1.StorageClass) bool {
	return c.Annotations[DefaultClass] == "true" || c.Annotations[oldDefaultClass] == "true"
}

func classColumns() []resource.Column[storagev1.StorageClass] {
	type sc = storagev1.StorageClass
	doc := storagev1.StorageClass{}.SwaggerDoc()
	return []resource.Column[sc]{
		{Name: "Name", Format: "name", Describe: nameDoc, Value: func(c *sc) any {
			if IsDefault(c) {
				return c.Name + " (default)"
			}
			return c.Name
		}},
		{Name: "Provisioner", Describe: doc["provisioner"], Value: func(c *sc) any { return c.Provisioner }},
		{Name: "ReclaimPolicy", Describe: doc["reclaimPolicy"], Value: func(c *sc) any {
			return show.Or(string(deref(c.ReclaimPolicy)), string(corev1.PersistentVolumeReclaimDelete))
		}},
		{Name: "VolumeBindingMode", Describe: doc["volumeBindingMode"], Value: func(c *sc) any {
			return show.Or(string(deref(c.VolumeBindingMode)), string(storagev1.VolumeBindingImmediate))
		}},
		{Name: "AllowVolumeExpansion", Describe: doc["allowVolumeExpansion"], Value: func(c *sc) any { return deref(c.AllowVolumeExpansion) }},
		show.Age[sc](),
	}
}
