// Package scheduling declares the kinds of the group scheduling.k8s.io: which pods matter more than others.
package scheduling

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// The range of priorities: users may go as far as highest, the system's own classes lie above it.
const (
	highest      = 1_000_000_000
	systemPrefix = "system-"
)

// SystemClasses are the classes that every cluster has.
func SystemClasses() []*schedulingv1.PriorityClass {
	class := func(name string, value int32, text string) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, Description: text}
	}
	return []*schedulingv1.PriorityClass{
		class("system-node-critical", 2*highest+1000, "Used for system critical pods that must not be moved from their current node."),
		class("system-cluster-critical", 2*highest, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
	}
}

// PriorityClass gives a number to how much pods matter.
var PriorityClass = resource.Define(scheme.Types, resource.Spec[schedulingv1.PriorityClass]{
	Names:       resource.Names{Group: "scheduling.k8s.io", Version: "v1", Kind: "PriorityClass", Plural: "priorityclasses", Short: []string{"pc"}},
	Scope:       resource.Cluster,
	Default:     func(c *schedulingv1.PriorityClass) { fill.Ptr(&c.PreemptionPolicy, corev1.PreemptLowerPriority) },
	SpecChanged: func(_, _ *schedulingv1.PriorityClass) bool { return false }, // its generation stays 1
	Validate:    validatePriorityClass,
	ValidateUpdate: func(c, old *schedulingv1.PriorityClass) field.ErrorList {
		var errs field.ErrorList
		if c.Value != old.Value {
			errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
		}
		return append(errs, check.Immutable(c.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
	},
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[schedulingv1.PriorityClass]{
		{Name: "Value", Type: "integer", Describe: schedulingv1.PriorityClass{}.SwaggerDoc()["value"], Value: func(c *schedulingv1.PriorityClass) any { return int64(c.Value) }},
		{Name: "Global-Default", Type: "boolean", Describe: schedulingv1.PriorityClass{}.SwaggerDoc()["globalDefault"], Value: func(c *schedulingv1.PriorityClass) any { return c.GlobalDefault }},
		show.Age[schedulingv1.PriorityClass](),
		{Name: "PreemptionPolicy", Describe: schedulingv1.PriorityClass{}.SwaggerDoc()["preemptionPolicy"], Value: func(c *schedulingv1.PriorityClass) any {
			if c.PreemptionPolicy == nil {
				return ""
			}
			return string(*c.PreemptionPolicy)
		}},
	},
})

func validatePriorityClass(c *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(c.Name, systemPrefix) {
		if err := known(c); err != nil {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"), "priority class names with '"+systemPrefix+"' prefix are reserved for system use only. error: "+err.Error()))
		}
	} else if c.Value > highest {
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %v", highest)))
	}
	if p := c.PreemptionPolicy; p != nil {
		errs = append(errs, check.OneOf(*p, field.NewPath("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}

// known says what keeps a class from being one of the system's.
func known(c *schedulingv1.PriorityClass) error {
	for _, system := range SystemClasses() {
		switch {
		case system.Name != c.Name:
		case system.Value != c.Value:
			return fmt.Errorf("value of %v PriorityClass must be %v", system.Name, system.Value)
		case system.GlobalDefault != c.GlobalDefault:
			return fmt.Errorf("globalDefault of %v PriorityClass must be %v", system.Name, system.GlobalDefault)
		default:
			return nil
		}
	}
	return fmt.Errorf("%v is not a known system priority class", c.Name)
}
