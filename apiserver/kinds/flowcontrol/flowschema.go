// Package flowcontrol declares the kinds of the group flowcontrol.apiserver.k8s.io: which requests get how much of the
// server when there are too many. Package fairness obeys them.
package flowcontrol

import (
	"fmt"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

const (
	group, version = "flowcontrol.apiserver.k8s.io", "v1"
	exempt         = "exempt"
	defaultOrder   = 1000
	lastOrder      = 10000
)

// FlowSchema says which requests belong to which priority level.
var FlowSchema = resource.Define(scheme.Types, resource.Spec[flowcontrolv1.FlowSchema]{
	Names:                    resource.Names{Group: group, Version: version, Kind: "FlowSchema", Plural: "flowschemas"},
	Scope:                    resource.Cluster,
	Default:                  func(f *flowcontrolv1.FlowSchema) { fill.Zero(&f.Spec.MatchingPrecedence, defaultOrder) },
	SetStatus:                func(dst, src *flowcontrolv1.FlowSchema) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged:              func(f, old *flowcontrolv1.FlowSchema) bool { return !equality.Semantic.DeepEqual(f.Spec, old.Spec) },
	Validate:                 validateSchema,
	ValidateStatusUpdate:     func(f, _ *flowcontrolv1.FlowSchema) field.ErrorList { return validateSchemaStatus(f) },
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[flowcontrolv1.FlowSchema]{
		{Name: "PriorityLevel", Describe: flowcontrolv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"], Value: func(f *flowcontrolv1.FlowSchema) any { return f.Spec.PriorityLevelConfiguration.Name }},
		{Name: "MatchingPrecedence", Describe: flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["matchingPrecedence"], Value: func(f *flowcontrolv1.FlowSchema) any { return int64(f.Spec.MatchingPrecedence) }},
		{Name: "DistinguisherMethod", Describe: flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["distinguisherMethod"], Value: func(f *flowcontrolv1.FlowSchema) any {
			if f.Spec.DistinguisherMethod == nil {
				return show.None
			}
			return string(f.Spec.DistinguisherMethod.Type)
		}},
		show.Age[flowcontrolv1.FlowSchema](),
		{Name: "MissingPL", Describe: "references a broken or non-existent PriorityLevelConfiguration", Value: func(f *flowcontrolv1.FlowSchema) any {
			for _, c := range f.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					return string(c.Status)
				}
			}
			return "?"
		}},
	},
})

func validateSchema(f *flowcontrolv1.FlowSchema) field.ErrorList {
	path, s := field.NewPath("spec"), &f.Spec
	order := path.Child("matchingPrecedence")
	var errs field.ErrorList
	switch n := s.MatchingPrecedence; {
	case n <= 0:
		errs = append(errs, field.Invalid(order, n, "must be a positive value"))
	case n > lastOrder:
		errs = append(errs, field.Invalid(order, n, fmt.Sprintf("must not be greater than %v", lastOrder)))
	case n == 1 && f.Name != exempt:
		errs = append(errs, field.Invalid(order, n, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if d := s.DistinguisherMethod; d != nil {
		errs = append(errs, check.Among(d.Type, path.Child("distinguisherMethod", "type"), flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType)...)
	}
	if at := path.Child("priorityLevelConfiguration", "name"); s.PriorityLevelConfiguration.Name == "" {
		errs = append(errs, field.Required(at, "must reference a priority level"))
	} else {
		errs = append(errs, check.Subdomain(s.PriorityLevelConfiguration.Name, at)...)
	}
	for i := range s.Rules {
		errs = append(errs, validateRule(&s.Rules[i], path.Child("rules").Index(i))...)
	}
	for _, fixed := range mandatorySchemas() {
		if fixed.Name == f.Name && !equality.Semantic.DeepEqual(fixed.Spec, f.Spec) {
			errs = append(errs, field.Invalid(path, f.Spec, fmt.Sprintf("spec of '%s' must equal the fixed value", f.Name)))
		}
	}
	return append(errs, validateSchemaStatus(f)...)
}

func validateSchemaStatus(f *flowcontrolv1.FlowSchema) field.ErrorList {
	var types []string
	for _, c := range f.Status.Conditions {
		types = append(types, string(c.Type))
	}
	return validateConditionTypes(types)
}

func validateConditionTypes(types []string) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, t := range types {
		at := field.NewPath("status", "conditions").Index(i).Child("type")
		if seen.Has(t) {
			errs = append(errs, field.Duplicate(at, t))
		}
		if seen.Insert(t); t == "" {
			errs = append(errs, field.Required(at, ""))
		}
	}
	return errs
}

func validateRule(r *flowcontrolv1.PolicyRulesWithSubjects, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(at.Child("subjects"), "subjects must contain at least one value"))
	}
	for i := range r.Subjects {
		errs = append(errs, validateSubject(&r.Subjects[i], at.Child("subjects").Index(i))...)
	}
	if len(r.ResourceRules)+len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(at, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i, rule := range r.ResourceRules {
		errs = append(errs, validateResourceRule(&rule, at.Child("resourceRules").Index(i))...)
	}
	for i, rule := range r.NonResourceRules {
		at := at.Child("nonResourceRules").Index(i)
		errs = append(errs, validateVerbs(rule.Verbs, at.Child("verbs"))...)
		urls := at.Child("nonResourceURLs")
		errs = append(errs, list(rule.NonResourceURLs, urls, "nonResourceURLs must contain at least one value", "non-resource URLs")...)
		for n, url := range rule.NonResourceURLs {
			if url != "*" {
				errs = append(errs, validateURL(url, urls.Index(n))...)
			}
		}
	}
	return errs
}

// list wants something, and nothing beside a star.
func list(values []string, at *field.Path, missing, what string) field.ErrorList {
	switch {
	case len(values) == 0:
		return field.ErrorList{field.Required(at, missing)}
	case len(values) > 1 && slices.Contains(values, "*"):
		return field.ErrorList{field.Invalid(at, values, "if '*' is present, must not specify other "+what)}
	}
	return nil
}

var verbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"}

func validateVerbs(values []string, at *field.Path) field.ErrorList {
	errs := list(values, at, "verbs must contain at least one value", "verbs")
	if len(errs) == 0 && !slices.Contains(values, "*") && !sets.New(verbs...).HasAll(values...) {
		errs = append(errs, field.NotSupported(at, values, verbs))
	}
	return errs
}

func validateURL(url string, at *field.Path) field.ErrorList {
	switch {
	case url == "":
		return field.ErrorList{field.Invalid(at, url, "must not be empty")}
	case url == "/":
		return nil
	case !strings.HasPrefix(url, "/"):
		return field.ErrorList{field.Invalid(at, url, "must start with slash")}
	case strings.Contains(url, " "):
		return field.ErrorList{field.Invalid(at, url, "must not contain white-space")}
	case strings.Contains(url, "//"):
		return field.ErrorList{field.Invalid(at, url, "must not contain double slash")}
	case strings.Contains(strings.TrimSuffix(url, "/*"), "*"):
		return field.ErrorList{field.Invalid(at, url, "wildcard can only do suffix matching")}
	}
	return nil
}

func validateResourceRule(r *flowcontrolv1.ResourcePolicyRule, at *field.Path) field.ErrorList {
	errs := validateVerbs(r.Verbs, at.Child("verbs"))
	errs = append(errs, list(r.APIGroups, at.Child("apiGroups"), "resource rules must supply at least one api group", "api groups")...)
	errs = append(errs, list(r.Resources, at.Child("resources"), "resource rules must supply at least one resource", "resources")...)
	spaces := at.Child("namespaces")
	if len(r.Namespaces) > 0 || !r.ClusterScope {
		errs = append(errs, list(r.Namespaces, spaces, "resource rules that are not cluster scoped must supply at least one namespace", "namespaces")...)
	}
	for i, ns := range r.Namespaces {
		if ns == "*" {
			continue
		}
		for _, err := range check.DNSLabel(ns, spaces.Index(i)) {
			err.Detail = "each member of this list must be '*' or a DNS-1123 label; " + err.Detail
			errs = append(errs, err)
		}
	}
	return errs
}

func validateSubject(s *flowcontrolv1.Subject, at *field.Path) field.ErrorList {
	parts := []struct {
		kind  flowcontrolv1.SubjectKind
		name  string
		there bool
	}{
		{flowcontrolv1.SubjectKindUser, "user", s.User != nil}, {flowcontrolv1.SubjectKindGroup, "group", s.Group != nil},
		{flowcontrolv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil},
	}
	errs := check.Among(s.Kind, at.Child("kind"), flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser)
	if len(errs) > 0 {
		return errs
	}
	for _, p := range parts {
		switch {
		case p.kind == s.Kind && !p.there:
			errs = append(errs, field.Required(at.Child(p.name), fmt.Sprintf("%s is required when subject kind is '%s'", p.name, p.kind)))
		case p.kind != s.Kind && p.there:
			errs = append(errs, field.Forbidden(at.Child(p.name), fmt.Sprintf("%s is forbidden when subject kind is not '%s'", p.name, p.kind)))
		}
	}
	switch {
	case s.Kind == flowcontrolv1.SubjectKindUser && s.User != nil && s.User.Name == "":
		errs = append(errs, field.Required(at.Child("user", "name"), ""))
	case s.Kind == flowcontrolv1.SubjectKindGroup && s.Group != nil && s.Group.Name == "":
		errs = append(errs, field.Required(at.Child("group", "name"), ""))
	case s.Kind == flowcontrolv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
		errs = append(errs, validateAccount(s.ServiceAccount, at.Child("serviceAccount"))...)
	}
	return errs
}

func validateAccount(a *flowcontrolv1.ServiceAccountSubject, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if a.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else if a.Name != "*" {
		errs = append(errs, check.Subdomain(a.Name, at.Child("name"))...)
	}
	if a.Namespace == "" {
		return append(errs, field.Required(at.Child("namespace"), "must specify namespace for service account"))
	}
	return append(errs, check.DNSLabel(a.Namespace, at.Child("namespace"))...)
}
