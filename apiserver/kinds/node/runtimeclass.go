// Package node declares the kind of the group node.k8s.io: ways to run containers.
package node

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// RuntimeClass names a way to run containers, what it costs and which nodes have it.
var RuntimeClass = resource.Define(scheme.Types, resource.Spec[nodev1.RuntimeClass]{
	Names: resource.Names{Group: "node.k8s.io", Version: "v1", Kind: "RuntimeClass", Plural: "runtimeclasses"},
	Scope: resource.Cluster,
	Default: func(c *nodev1.RuntimeClass) {
		if c.Overhead != nil {
			core.RoundToMilli(c.Overhead.PodFixed)
		}
	},
	Validate: validateRuntimeClass,
	ValidateUpdate: func(c, old *nodev1.RuntimeClass) field.ErrorList {
		return check.Immutable(c.Handler, old.Handler, field.NewPath("handler"))
	},
	Warnings: func(c, _ *nodev1.RuntimeClass) []string {
		if c.Scheduling == nil {
			return nil
		}
		var warnings []string
		for _, key := range slices.Sorted(maps.Keys(c.Scheduling.NodeSelector)) {
			if msg := core.OldNodeLabel(key); msg != "" {
				warnings = append(warnings, fmt.Sprintf("%s: %s", field.NewPath("scheduling", "nodeSelector"), msg))
			}
		}
		return warnings
	},
	Columns: []resource.Column[nodev1.RuntimeClass]{
		{Name: "Handler", Describe: nodev1.RuntimeClass{}.SwaggerDoc()["handler"], Value: func(c *nodev1.RuntimeClass) any { return c.Handler }},
		show.Age[nodev1.RuntimeClass](),
	},
})

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	var errs field.ErrorList
	if at := field.NewPath("handler"); c.Handler == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, check.DNSLabel(c.Handler, at)...)
	}
	if c.Overhead != nil {
		errs = append(errs, core.ValidateContainerResources(&corev1.ResourceRequirements{Limits: c.Overhead.PodFixed}, field.NewPath("overhead"))...)
	}
	s, at := c.Scheduling, field.NewPath("scheduling")
	if s == nil {
		return errs
	}
	errs = append(errs, check.Labels(s.NodeSelector, at.Child("nodeSelector"))...)
	errs = append(errs, core.ValidateTolerations(s.Tolerations, at.Child("tolerations"))...)
	twins := map[corev1.Toleration]bool{}
	for i, t := range s.Tolerations {
		key := corev1.Toleration{Key: t.Key, Operator: t.Operator, Value: t.Value, Effect: t.Effect}
		if twins[key] {
			errs = append(errs, field.Duplicate(at.Child("tolerations").Index(i), t))
		}
		twins[key] = true
	}
	return errs
}
