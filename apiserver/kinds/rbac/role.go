// Package rbac declares the kinds of the group rbac.authorization.k8s.io: roles, which are lists of rules, and bindings,
// which give a role to subjects. What they mean is decided in hardway/apiserver/authz.
package rbac

import (
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/resource"
)

// Role is a list of rules for one namespace.
var Role = resource.Define(scheme.Types, resource.Spec[rbacv1.Role]{
	Names:                    names("Role", "roles"),
	Scope:                    resource.Namespaced,
	Validate:                 func(r *rbacv1.Role) field.ErrorList { return validateRules(r.Rules, true) },
	ValidateName:             pathSegment,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[rbacv1.Role]{
		createdAt(func(r *rbacv1.Role) time.Time { return r.CreationTimestamp.Time }),
	},
})

// ClusterRole is a list of rules for the whole cluster, or for whatever namespace it is bound in.
var ClusterRole = resource.Define(scheme.Types, resource.Spec[rbacv1.ClusterRole]{
	Names:                    names("ClusterRole", "clusterroles"),
	Scope:                    resource.Cluster,
	Validate:                 validateClusterRole,
	ValidateName:             pathSegment,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[rbacv1.ClusterRole]{
		createdAt(func(r *rbacv1.ClusterRole) time.Time { return r.CreationTimestamp.Time }),
	},
})

func names(kind, plural string) resource.Names {
	return resource.Names{Group: rbacv1.GroupName, Version: "v1", Kind: kind, Plural: plural}
}

// pathSegment: names of roles and bindings may hold whatever a URL can, such as the colons of system:node.
func pathSegment(name string) []string { return path.IsValidPathSegmentName(name) }

// createdAt is the last column of roles: a date, not an age.
func createdAt[T any](of func(*T) time.Time) resource.Column[T] {
	return resource.Column[T]{
		Name: "Created At", Format: "date-time",
		Describe: "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in " +
			"happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.",
		Value: func(obj *T) any { return of(obj).UTC().Format(time.RFC3339) },
	}
}

func validateClusterRole(r *rbacv1.ClusterRole) field.ErrorList {
	errs := validateRules(r.Rules, false)
	if r.AggregationRule == nil {
		return errs
	}
	selectors := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		errs = append(errs, field.Required(selectors, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		errs = append(errs, metav1validation.ValidateLabelSelector(
			&r.AggregationRule.ClusterRoleSelectors[i], metav1validation.LabelSelectorValidationOptions{}, selectors.Index(i))...)
	}
	return errs
}

func validateRules(rules []rbacv1.PolicyRule, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	for i := range rules {
		errs = append(errs, validateRule(&rules[i], namespaced, field.NewPath("rules").Index(i))...)
	}
	return errs
}

// validateRule wants verbs, and either resources of groups or paths; a role of one namespace has no say about paths.
func validateRule(r *rbacv1.PolicyRule, namespaced bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Verbs) == 0 {
		errs = append(errs, field.Required(path.Child("verbs"), "verbs must contain at least one value"))
	}
	if len(r.NonResourceURLs) > 0 {
		urls := path.Child("nonResourceURLs")
		if namespaced {
			errs = append(errs, field.Invalid(urls, r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
		}
		if len(r.APIGroups) > 0 || len(r.Resources) > 0 || len(r.ResourceNames) > 0 {
			errs = append(errs, field.Invalid(urls, r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
		}
		return errs
	}
	if len(r.APIGroups) == 0 {
		errs = append(errs, field.Required(path.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	if len(r.Resources) == 0 {
		errs = append(errs, field.Required(path.Child("resources"), "resource rules must supply at least one resource"))
	}
	return errs
}
