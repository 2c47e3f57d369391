// Package admissionregistration declares the kinds of the group admissionregistration.k8s.io. They are kept and checked;
// nothing here calls webhooks or evaluates policies yet, and every write of one says so in a warning.
package admissionregistration

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

const (
	group, version = "admissionregistration.k8s.io", "v1"
	// idle is the warning on every write.
	idle = "this object is stored, but this server does not act on it: no webhook is called and no policy is evaluated"
	// maxConditions bounds the matchConditions of one webhook or policy.
	maxConditions = 64
)

func names(kind, plural string) resource.Names {
	return resource.Names{Group: group, Version: version, Kind: kind, Plural: plural, Categories: []string{"api-extensions"}}
}

// ValidatingWebhookConfiguration lists webhooks that may refuse writes.
var ValidatingWebhookConfiguration = resource.Define(scheme.Types, resource.Spec[admissionv1.ValidatingWebhookConfiguration]{
	Names: names("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
	Scope: resource.Cluster,
	Default: func(c *admissionv1.ValidatingWebhookConfiguration) {
		for i := range c.Webhooks {
			w := &c.Webhooks[i]
			defaultHook(&w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, &w.TimeoutSeconds)
		}
	},
	SpecChanged: func(c, old *admissionv1.ValidatingWebhookConfiguration) bool {
		return !equality.Semantic.DeepEqual(c.Webhooks, old.Webhooks)
	},
	Validate: func(c *admissionv1.ValidatingWebhookConfiguration) field.ErrorList {
		var hooks []hook
		for i := range c.Webhooks {
			w := &c.Webhooks[i]
			hooks = append(hooks, hook{w.Name, &w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy, w.SideEffects, w.TimeoutSeconds, w.AdmissionReviewVersions, w.NamespaceSelector, w.ObjectSelector, w.MatchConditions})
		}
		return validateHooks(hooks)
	},
	Prepare:                  func(ctx context.Context, _, _ *admissionv1.ValidatingWebhookConfiguration) { request.Warn(ctx, idle) },
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[admissionv1.ValidatingWebhookConfiguration]{
		{Name: "Webhooks", Type: "integer", Describe: "Webhooks indicates the number of webhooks registered in this configuration", Value: func(c *admissionv1.ValidatingWebhookConfiguration) any { return int64(len(c.Webhooks)) }},
		show.Age[admissionv1.ValidatingWebhookConfiguration](),
	},
})

// MutatingWebhookConfiguration lists webhooks that may change what is written.
var MutatingWebhookConfiguration = resource.Define(scheme.Types, resource.Spec[admissionv1.MutatingWebhookConfiguration]{
	Names: names("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
	Scope: resource.Cluster,
	Default: func(c *admissionv1.MutatingWebhookConfiguration) {
		for i := range c.Webhooks {
			w := &c.Webhooks[i]
			defaultHook(&w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, &w.TimeoutSeconds)
			fill.Ptr(&w.ReinvocationPolicy, admissionv1.NeverReinvocationPolicy)
		}
	},
	SpecChanged: func(c, old *admissionv1.MutatingWebhookConfiguration) bool {
		return !equality.Semantic.DeepEqual(c.Webhooks, old.Webhooks)
	},
	Validate: func(c *admissionv1.MutatingWebhookConfiguration) field.ErrorList {
		var hooks []hook
		var errs field.ErrorList
		for i := range c.Webhooks {
			w := &c.Webhooks[i]
			hooks = append(hooks, hook{w.Name, &w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy, w.SideEffects, w.TimeoutSeconds, w.AdmissionReviewVersions, w.NamespaceSelector, w.ObjectSelector, w.MatchConditions})
			if p := w.ReinvocationPolicy; p != nil {
				errs = append(errs, check.Among(*p, field.NewPath("webhooks").Index(i).Child("reinvocationPolicy"), admissionv1.IfNeededReinvocationPolicy, admissionv1.NeverReinvocationPolicy)...)
			}
		}
		return append(validateHooks(hooks), errs...)
	},
	Prepare:                  func(ctx context.Context, _, _ *admissionv1.MutatingWebhookConfiguration) { request.Warn(ctx, idle) },
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[admissionv1.MutatingWebhookConfiguration]{
		{Name: "Webhooks", Type: "integer", Describe: "Webhooks indicates the number of webhooks registered in this configuration", Value: func(c *admissionv1.MutatingWebhookConfiguration) any { return int64(len(c.Webhooks)) }},
		show.Age[admissionv1.MutatingWebhookConfiguration](),
	},
})

func defaultHook(c *admissionv1.WebhookClientConfig, rules []admissionv1.RuleWithOperations, failure **admissionv1.FailurePolicyType,
	match **admissionv1.MatchPolicyType, namespaces, objects **metav1.LabelSelector, seconds **int32,
) {
	if c.Service != nil {
		fill.Ptr(&c.Service.Port, 443)
	}
	for i := range rules {
		fill.Ptr(&rules[i].Scope, admissionv1.AllScopes)
	}
	fill.Ptr(failure, admissionv1.Fail)
	fill.Ptr(match, admissionv1.Equivalent)
	fill.Ptr(namespaces, metav1.LabelSelector{})
	fill.Ptr(objects, metav1.LabelSelector{})
	fill.Ptr(seconds, 10)
}

// hook is what both sorts of webhooks have.
type hook struct {
	name       string
	client     *admissionv1.WebhookClientConfig
	rules      []admissionv1.RuleWithOperations
	failure    *admissionv1.FailurePolicyType
	match      *admissionv1.MatchPolicyType
	effects    *admissionv1.SideEffectClass
	seconds    *int32
	versions   []string
	namespaces *metav1.LabelSelector
	objects    *metav1.LabelSelector
	conditions []admissionv1.MatchCondition
}

func validateHooks(hooks []hook) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i := range hooks {
		at := field.NewPath("webhooks").Index(i)
		if seen.Has(hooks[i].name) {
			errs = append(errs, field.Duplicate(at.Child("name"), hooks[i].name))
		}
		seen.Insert(hooks[i].name)
		errs = append(errs, validateHook(&hooks[i], at)...)
	}
	return errs
}

func validateHook(h *hook, at *field.Path) field.ErrorList {
	errs := validation.IsFullyQualifiedName(at.Child("name"), h.name)
	for i := range h.rules {
		errs = append(errs, validateRule(&h.rules[i], at.Child("rules").Index(i), true)...)
	}
	if h.failure != nil {
		errs = append(errs, check.Among(*h.failure, at.Child("failurePolicy"), admissionv1.Fail, admissionv1.Ignore)...)
	}
	if h.match != nil {
		errs = append(errs, check.Among(*h.match, at.Child("matchPolicy"), admissionv1.Equivalent, admissionv1.Exact)...)
	}
	if h.effects == nil {
		errs = append(errs, field.Required(at.Child("sideEffects"), "must specify one of None, NoneOnDryRun"))
	} else {
		errs = append(errs, check.Among(*h.effects, at.Child("sideEffects"), admissionv1.SideEffectClassNone, admissionv1.SideEffectClassNoneOnDryRun)...)
	}
	if n := h.seconds; n != nil && (*n < 1 || *n > 30) {
		errs = append(errs, field.Invalid(at.Child("timeoutSeconds"), *n, "the timeout value must be between 1 and 30 seconds"))
	}
	versions := at.Child("admissionReviewVersions")
	if len(h.versions) == 0 {
		errs = append(errs, field.Required(versions, "must specify one of v1, v1beta1"))
	} else if !slices.ContainsFunc(h.versions, func(v string) bool { return v == "v1" || v == "v1beta1" }) {
		errs = append(errs, field.Invalid(versions, h.versions, "must include at least one of v1, v1beta1"))
	}
	for i, v := range h.versions {
		errs = append(errs, check.Each(versions.Index(i), v, validation.IsDNS1035Label(v))...)
	}
	errs = append(errs, check.Selector(h.namespaces, at.Child("namespaceSelector"))...)
	errs = append(errs, check.Selector(h.objects, at.Child("objectSelector"))...)
	errs = append(errs, validateConditions(h.conditions, at.Child("matchConditions"))...)
	return append(errs, validateClient(h.client, at.Child("clientConfig"))...)
}

func validateClient(c *admissionv1.WebhookClientConfig, at *field.Path) field.ErrorList {
	const one = "exactly one of url or service is required"
	switch {
	case (c.URL == nil) == (c.Service == nil):
		return field.ErrorList{field.Required(at, one)}
	case c.URL != nil:
		u, err := url.Parse(*c.URL)
		switch path := at.Child("url"); {
		case err != nil:
			return field.ErrorList{field.Required(path, "url must be a valid URL: "+err.Error()+"; desired format: https://host[/path]")}
		case u.Scheme != "https":
			return field.ErrorList{field.Invalid(path, u.Scheme, "'https' is the only allowed URL scheme; desired format: https://host[/path]")}
		case u.Host == "":
			return field.ErrorList{field.Invalid(path, u.Host, "host must be specified; desired format: https://host[/path]")}
		case u.User != nil, u.Fragment != "", u.RawQuery != "":
			return field.ErrorList{field.Invalid(path, *c.URL, "user information, fragments and query parameters are not permitted in the URL")}
		}
		return nil
	}
	var errs field.ErrorList
	s, path := c.Service, at.Child("service")
	if s.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), "service name is required"))
	}
	if s.Namespace == "" {
		errs = append(errs, field.Required(path.Child("namespace"), "service namespace is required"))
	}
	if s.Port != nil {
		errs = append(errs, check.Port(*s.Port, path.Child("port"))...)
	}
	if s.Path != nil && !strings.HasPrefix(*s.Path, "/") {
		errs = append(errs, field.Invalid(path.Child("path"), *s.Path, "must start with a '/'"))
	}
	return errs
}

func validateRule(r *admissionv1.RuleWithOperations, at *field.Path, connect bool) field.ErrorList {
	var errs field.ErrorList
	ops := []admissionv1.OperationType{admissionv1.OperationAll, admissionv1.Connect, admissionv1.Create, admissionv1.Delete, admissionv1.Update}
	if !connect {
		ops = slices.DeleteFunc(ops, func(o admissionv1.OperationType) bool { return o == admissionv1.Connect })
	}
	if len(r.Operations) == 0 {
		errs = append(errs, field.Required(at.Child("operations"), ""))
	} else if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionv1.OperationAll) {
		errs = append(errs, field.Invalid(at.Child("operations"), r.Operations, "if '*' is present, must not specify other operations"))
	}
	for i, o := range r.Operations {
		errs = append(errs, check.Among(o, at.Child("operations").Index(i), ops...)...)
	}
	for _, l := range []struct {
		name   string
		values []string
		what   string
	}{{"apiGroups", r.APIGroups, "API groups"}, {"apiVersions", r.APIVersions, "API versions"}, {"resources", r.Resources, ""}} {
		if len(l.values) == 0 {
			errs = append(errs, field.Required(at.Child(l.name), ""))
		} else if l.what != "" && len(l.values) > 1 && slices.Contains(l.values, "*") {
			errs = append(errs, field.Invalid(at.Child(l.name), l.values, "if '*' is present, must not specify other "+l.what))
		}
		for i, v := range l.values {
			if v == "" && l.name != "apiGroups" {
				errs = append(errs, field.Required(at.Child(l.name).Index(i), ""))
			}
		}
	}
	if r.Scope != nil {
		errs = append(errs, check.Among(*r.Scope, at.Child("scope"), admissionv1.AllScopes, admissionv1.ClusterScope, admissionv1.NamespacedScope)...)
	}
	return errs
}

func validateConditions(list []admissionv1.MatchCondition, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) > maxConditions {
		errs = append(errs, field.TooMany(at, len(list), maxConditions))
	}
	seen := sets.New[string]()
	for i, c := range list {
		if c.Name == "" {
			errs = append(errs, field.Required(at.Index(i).Child("name"), ""))
		} else {
			errs = append(errs, check.QualifiedName(c.Name, at.Index(i).Child("name"))...)
		}
		if strings.TrimSpace(c.Expression) == "" {
			errs = append(errs, field.Required(at.Index(i).Child("expression"), ""))
		}
		if seen.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Index(i).Child("name"), c.Name))
		}
		seen.Insert(c.Name)
	}
	return errs
}

// ValidatingAdmissionPolicy holds expressions that writes must satisfy.
var ValidatingAdmissionPolicy = resource.Define(scheme.Types, resource.Spec[admissionv1.ValidatingAdmissionPolicy]{
	Names: names("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
	Scope: resource.Cluster,
	Default: func(p *admissionv1.ValidatingAdmissionPolicy) {
		fill.Ptr(&p.Spec.FailurePolicy, admissionv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	},
	SetStatus: func(dst, src *admissionv1.ValidatingAdmissionPolicy) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged: func(p, old *admissionv1.ValidatingAdmissionPolicy) bool {
		return !equality.Semantic.DeepEqual(p.Spec, old.Spec)
	},
	Validate: validatePolicy,
	Prepare:  func(ctx context.Context, _, _ *admissionv1.ValidatingAdmissionPolicy) { request.Warn(ctx, idle) },
	Columns: []resource.Column[admissionv1.ValidatingAdmissionPolicy]{
		{Name: "Validations", Type: "integer", Describe: "Validations indicates the number of validation rules defined in this configuration", Value: func(p *admissionv1.ValidatingAdmissionPolicy) any { return int64(len(p.Spec.Validations)) }},
		{Name: "ParamKind", Describe: "ParamKind specifies the kind of resources used to parameterize this policy", Value: func(p *admissionv1.ValidatingAdmissionPolicy) any { return showKind(p.Spec.ParamKind) }},
		show.Age[admissionv1.ValidatingAdmissionPolicy](),
	},
	AllowUnconditionalUpdate: true,
})

func showKind(k *admissionv1.ParamKind) any {
	if k == nil {
		return show.Unset
	}
	return k.APIVersion + "/" + k.Kind
}

func defaultMatch(m *admissionv1.MatchResources) {
	if m == nil {
		return
	}
	fill.Ptr(&m.MatchPolicy, admissionv1.Equivalent)
	fill.Ptr(&m.NamespaceSelector, metav1.LabelSelector{})
	fill.Ptr(&m.ObjectSelector, metav1.LabelSelector{})
	for _, rules := range [][]admissionv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			fill.Ptr(&rules[i].Scope, admissionv1.AllScopes)
		}
	}
}

// validateMatching checks what policies of both sorts have.
func validateMatching(failure *admissionv1.FailurePolicyType, params *admissionv1.ParamKind, match *admissionv1.MatchResources, connect bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if failure != nil {
		errs = append(errs, check.Among(*failure, path.Child("failurePolicy"), admissionv1.Fail, admissionv1.Ignore)...)
	}
	if params != nil {
		if params.APIVersion == "" {
			errs = append(errs, field.Required(path.Child("paramKind", "apiVersion"), ""))
		}
		if params.Kind == "" {
			errs = append(errs, field.Required(path.Child("paramKind", "kind"), ""))
		}
	}
	if match == nil {
		errs = append(errs, field.Required(path.Child("matchConstraints"), ""))
	} else {
		at := path.Child("matchConstraints", "resourceRules")
		if len(match.ResourceRules) == 0 {
			errs = append(errs, field.Required(at, ""))
		}
		for i := range match.ResourceRules {
			errs = append(errs, validateRule(&match.ResourceRules[i].RuleWithOperations, at.Index(i), connect)...)
		}
	}
	return errs
}

func validatePolicy(p *admissionv1.ValidatingAdmissionPolicy) field.ErrorList {
	path, s := field.NewPath("spec"), &p.Spec
	var errs field.ErrorList
	errs = append(errs, validateMatching(s.FailurePolicy, s.ParamKind, s.MatchConstraints, false, path)...)
	if len(s.Validations)+len(s.AuditAnnotations) == 0 {
		errs = append(errs, field.Required(path.Child("validations"), "validations or auditAnnotations must be non-empty"))
	}
	for i, v := range s.Validations {
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(path.Child("validations").Index(i).Child("expression"), "expression is not specified"))
		}
	}
	return append(errs, validateConditions(s.MatchConditions, path.Child("matchConditions"))...)
}

// ValidatingAdmissionPolicyBinding puts a policy into force.
var ValidatingAdmissionPolicyBinding = resource.Define(scheme.Types, resource.Spec[admissionv1.ValidatingAdmissionPolicyBinding]{
	Names:   names("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
	Scope:   resource.Cluster,
	Default: func(b *admissionv1.ValidatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) },
	SpecChanged: func(b, old *admissionv1.ValidatingAdmissionPolicyBinding) bool {
		return !equality.Semantic.DeepEqual(b.Spec, old.Spec)
	},
	Validate: validateBinding,
	Prepare:  func(ctx context.Context, _, _ *admissionv1.ValidatingAdmissionPolicyBinding) { request.Warn(ctx, idle) },
	Columns: []resource.Column[admissionv1.ValidatingAdmissionPolicyBinding]{
		{Name: "PolicyName", Describe: "PolicyName indicates the policy definition which the policy binding binded to", Value: func(b *admissionv1.ValidatingAdmissionPolicyBinding) any { return b.Spec.PolicyName }},
		{Name: "ParamRef", Describe: "ParamRef indicates the param resource which sets the configuration param", Value: func(b *admissionv1.ValidatingAdmissionPolicyBinding) any { return showParams(b.Spec.ParamRef) }},
		show.Age[admissionv1.ValidatingAdmissionPolicyBinding](),
	},
	AllowUnconditionalUpdate: true,
})

func showParams(r *admissionv1.ParamRef) any {
	switch {
	case r == nil:
		return show.Unset
	case r.Name != "":
		return show.Or(r.Namespace, "*") + "/" + r.Name
	case r.Selector != nil:
		return r.Selector.String()
	}
	return show.Unset
}

func validateBinding(b *admissionv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	path, s := field.NewPath("spec"), &b.Spec
	var errs field.ErrorList
	if s.PolicyName == "" {
		errs = append(errs, field.Required(path.Child("policyName"), ""))
	} else {
		errs = append(errs, check.Subdomain(s.PolicyName, path.Child("policyName"))...)
	}
	actions := path.Child("validationActions")
	if len(s.ValidationActions) == 0 {
		errs = append(errs, field.Required(actions, ""))
	}
	seen := sets.New[admissionv1.ValidationAction]()
	for i, a := range s.ValidationActions {
		errs = append(errs, check.Among(a, actions.Index(i), admissionv1.Audit, admissionv1.Deny, admissionv1.Warn)...)
		if seen.Has(a) {
			errs = append(errs, field.Duplicate(actions.Index(i), a))
		}
		seen.Insert(a)
	}
	if seen.HasAll(admissionv1.Deny, admissionv1.Warn) {
		errs = append(errs, field.Invalid(actions, s.ValidationActions, fmt.Sprintf("must not contain both %s and %s (repeating the same validation failure information in the API response and headers serves no purpose)", admissionv1.Deny, admissionv1.Warn)))
	}
	return append(errs, validateParams(s.ParamRef, path.Child("paramRef"))...)
}

func validateParams(r *admissionv1.ParamRef, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case r == nil:
		return nil
	case r.Name != "" && r.Selector != nil:
		errs = append(errs, field.Forbidden(at.Child("name"), "name and selector are mutually exclusive"))
	case r.Name == "" && r.Selector == nil:
		errs = append(errs, field.Required(at, "one of name or selector must be specified"))
	}
	if r.ParameterNotFoundAction == nil {
		return append(errs, field.Required(at.Child("parameterNotFoundAction"), ""))
	}
	return append(errs, check.Among(*r.ParameterNotFoundAction, at.Child("parameterNotFoundAction"), admissionv1.AllowAction, admissionv1.DenyAction)...)
}
