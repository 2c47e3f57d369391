package admissionregistration

import (
	"context"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	admissionv1beta1 "k8s.io/api/admissionregistration/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// MutatingAdmissionPolicy holds expressions that change what is written.
var MutatingAdmissionPolicy = resource.Define(scheme.Types, resource.Spec[admissionv1.MutatingAdmissionPolicy]{
	Names: names("MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
	Scope: resource.Cluster,
	Default: func(p *admissionv1.MutatingAdmissionPolicy) {
		fill.Ptr(&p.Spec.FailurePolicy, admissionv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	},
	SpecChanged: func(p, old *admissionv1.MutatingAdmissionPolicy) bool {
		return !equality.Semantic.DeepEqual(p.Spec, old.Spec)
	},
	Validate: validateMutating,
	Prepare:  func(ctx context.Context, _, _ *admissionv1.MutatingAdmissionPolicy) { request.Warn(ctx, idle) },
	Columns: []resource.Column[admissionv1.MutatingAdmissionPolicy]{
		{Name: "Mutations", Type: "integer", Describe: "Mutation indicates the number of mutations rules defined in this configuration", Value: func(p *admissionv1.MutatingAdmissionPolicy) any { return int64(len(p.Spec.Mutations)) }},
		{Name: "ParamKind", Describe: "ParamKind specifies the kind of resources used to parameterize this policy", Value: func(p *admissionv1.MutatingAdmissionPolicy) any { return showKind(p.Spec.ParamKind) }},
		show.Age[admissionv1.MutatingAdmissionPolicy](),
	},
	AllowUnconditionalUpdate: true,
	Formerly:                 []resource.Version{beta("MutatingAdmissionPolicy", &admissionv1beta1.MutatingAdmissionPolicy{}, &admissionv1.MutatingAdmissionPolicy{})},
})

func validateMutating(p *admissionv1.MutatingAdmissionPolicy) field.ErrorList {
	path, s := field.NewPath("spec"), &p.Spec
	errs := validateMatching(s.FailurePolicy, s.ParamKind, s.MatchConstraints, true, path)
	if at := path.Child("reinvocationPolicy"); s.ReinvocationPolicy == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, check.Among(s.ReinvocationPolicy, at, admissionv1.IfNeededReinvocationPolicy, admissionv1.NeverReinvocationPolicy)...)
	}
	if len(s.Mutations) == 0 {
		errs = append(errs, field.Required(path.Child("mutations"), "mutations must contain at least one item"))
	}
	for i, m := range s.Mutations {
		at := path.Child("mutations").Index(i)
		switch m.PatchType {
		case admissionv1.PatchTypeApplyConfiguration:
			errs = append(errs, validateMutation(m.PatchType, at, "applyConfiguration", "jsonPatch", m.ApplyConfiguration != nil, m.JSONPatch != nil)...)
			if m.ApplyConfiguration != nil && strings.TrimSpace(m.ApplyConfiguration.Expression) == "" {
				errs = append(errs, field.Required(at.Child("applyConfiguration", "expression"), "expression is not specified"))
			}
		case admissionv1.PatchTypeJSONPatch:
			errs = append(errs, validateMutation(m.PatchType, at, "jsonPatch", "applyConfiguration", m.JSONPatch != nil, m.ApplyConfiguration != nil)...)
			if m.JSONPatch != nil && strings.TrimSpace(m.JSONPatch.Expression) == "" {
				errs = append(errs, field.Required(at.Child("jsonPatch", "expression"), "expression is not specified"))
			}
		default:
			errs = append(errs, check.Among(m.PatchType, at.Child("patchType"), admissionv1.PatchTypeApplyConfiguration, admissionv1.PatchTypeJSONPatch)...)
		}
	}
	return append(errs, validateConditions(s.MatchConditions, path.Child("matchConditions"))...)
}

// validateMutation checks that a mutation is of the sort that it says.
func validateMutation(sort admissionv1.PatchType, at *field.Path, name, otherName string, has, other bool) field.ErrorList {
	var errs field.ErrorList
	if !has {
		errs = append(errs, field.Required(at.Child(name), "must be specified when patchType is "+string(sort)))
	}
	if other {
		errs = append(errs, field.Invalid(at.Child(otherName), "{"+otherName+"}", "must not be specified when patchType is "+string(sort)))
	}
	return errs
}

// MutatingAdmissionPolicyBinding puts a policy into force.
var MutatingAdmissionPolicyBinding = resource.Define(scheme.Types, resource.Spec[admissionv1.MutatingAdmissionPolicyBinding]{
	Names:   names("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"),
	Scope:   resource.Cluster,
	Default: func(b *admissionv1.MutatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) },
	SpecChanged: func(b, old *admissionv1.MutatingAdmissionPolicyBinding) bool {
		return !equality.Semantic.DeepEqual(b.Spec, old.Spec)
	},
	Validate: func(b *admissionv1.MutatingAdmissionPolicyBinding) field.ErrorList {
		path, s := field.NewPath("spec"), &b.Spec
		var errs field.ErrorList
		if s.PolicyName == "" {
			errs = append(errs, field.Required(path.Child("policyName"), ""))
		} else {
			errs = append(errs, check.Subdomain(s.PolicyName, path.Child("policyName"))...)
		}
		return append(errs, validateParams(s.ParamRef, path.Child("paramRef"))...)
	},
	Prepare: func(ctx context.Context, _, _ *admissionv1.MutatingAdmissionPolicyBinding) { request.Warn(ctx, idle) },
	Columns: []resource.Column[admissionv1.MutatingAdmissionPolicyBinding]{
		{Name: "PolicyName", Describe: "PolicyName indicates the policy definition which the policy binding binded to", Value: func(b *admissionv1.MutatingAdmissionPolicyBinding) any { return b.Spec.PolicyName }},
		{Name: "ParamRef", Describe: "ParamRef indicates the param resource which sets the configuration param", Value: func(b *admissionv1.MutatingAdmissionPolicyBinding) any { return showParams(b.Spec.ParamRef) }},
		show.Age[admissionv1.MutatingAdmissionPolicyBinding](),
	},
	AllowUnconditionalUpdate: true,
	Formerly:                 []resource.Version{beta("MutatingAdmissionPolicyBinding", &admissionv1beta1.MutatingAdmissionPolicyBinding{}, &admissionv1.MutatingAdmissionPolicyBinding{})},
})

// message is what the types of the API can do.
type message interface {
	runtime.Object
	Marshal() ([]byte, error)
	Unmarshal(data []byte) error
}

// beta is the version in which upstream stores policies to this day. Its encoding is that of v1.
func beta(kind string, was, is message) resource.Version {
	return resource.Version{
		Names: resource.Names{Group: group, Version: "v1beta1", Kind: kind},
		New:   func() runtime.Object { return was.DeepCopyObject() },
		ToStorage: func(in runtime.Object) (resource.Object, error) {
			stored, ok := in.(message)
			out, isObject := is.DeepCopyObject().(resource.Object)
			if !ok || !isObject {
				return nil, fmt.Errorf("%T is no %s of v1beta1", in, kind)
			}
			text, err := stored.Marshal()
			if err == nil {
				err = out.(message).Unmarshal(text) //nolint:forcetypeassert // it is a copy of one
			}
			return out, err
		},
	}
}
