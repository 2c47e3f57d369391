// Package authorization declares the kinds of the group authorization.k8s.io: questions about what a user may do. They
// are answered and forgotten.
package authorization

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

const group, version = "authorization.k8s.io", "v1"

// SubjectAccessReview asks whether some user may do something.
var SubjectAccessReview = resource.Define(scheme.Types, resource.Spec[authorizationv1.SubjectAccessReview]{
	Names:    names("SubjectAccessReview", "subjectaccessreviews"),
	Scope:    resource.Cluster,
	Verbs:    []string{"create"},
	Validate: func(r *authorizationv1.SubjectAccessReview) field.ErrorList { return validateSpec(&r.Spec, true) },
	Review: func(ctx context.Context, r *authorizationv1.SubjectAccessReview, judge resource.Judge) error {
		return answer(ctx, &r.Spec, &r.Status, judge)
	},
})

// LocalSubjectAccessReview is a SubjectAccessReview about one namespace.
var LocalSubjectAccessReview = resource.Define(scheme.Types, resource.Spec[authorizationv1.LocalSubjectAccessReview]{
	Names: names("LocalSubjectAccessReview", "localsubjectaccessreviews"),
	Scope: resource.Namespaced,
	Verbs: []string{"create"},
	Validate: func(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
		errs := validateSpec(&r.Spec, true)
		path, a := field.NewPath("spec", "resourceAttributes"), r.Spec.ResourceAttributes
		if a == nil {
			return append(errs, field.Required(path, "must be specified"))
		}
		if a.Namespace != r.Namespace {
			errs = append(errs, field.Invalid(path.Child("namespace"), a.Namespace, "must match metadata.namespace"))
		}
		return errs
	},
	Review: func(ctx context.Context, r *authorizationv1.LocalSubjectAccessReview, judge resource.Judge) error {
		return answer(ctx, &r.Spec, &r.Status, judge)
	},
})

// SelfSubjectAccessReview asks whether the one who asks may do something.
var SelfSubjectAccessReview = resource.Define(scheme.Types, resource.Spec[authorizationv1.SelfSubjectAccessReview]{
	Names: names("SelfSubjectAccessReview", "selfsubjectaccessreviews"),
	Scope: resource.Cluster,
	Verbs: []string{"create"},
	Validate: func(r *authorizationv1.SelfSubjectAccessReview) field.ErrorList {
		return validateSpec(&authorizationv1.SubjectAccessReviewSpec{
			ResourceAttributes: r.Spec.ResourceAttributes, NonResourceAttributes: r.Spec.NonResourceAttributes,
		}, false)
	},
	Review: func(ctx context.Context, r *authorizationv1.SelfSubjectAccessReview, judge resource.Judge) error {
		user := request.User(ctx)
		if user == nil {
			return apierrors.NewBadRequest("no user present on request")
		}
		spec := authorizationv1.SubjectAccessReviewSpec{
			ResourceAttributes: r.Spec.ResourceAttributes, NonResourceAttributes: r.Spec.NonResourceAttributes,
			User: user.Name, UID: user.UID, Groups: user.Groups, Extra: map[string]authorizationv1.ExtraValue{},
		}
		for key, values := range user.Extra {
			spec.Extra[key] = values
		}
		return answer(ctx, &spec, &r.Status, judge)
	},
})

func names(kind, plural string) resource.Names {
	return resource.Names{Group: group, Version: version, Kind: kind, Plural: plural}
}

func answer(ctx context.Context, spec *authorizationv1.SubjectAccessReviewSpec, status *authorizationv1.SubjectAccessReviewStatus, judge resource.Judge) error {
	verdict, err := judge.May(ctx, spec)
	if err != nil {
		return fmt.Errorf("review what %s may do: %w", spec.User, err)
	}
	*status = verdict
	return nil
}

// validateSpec wants one thing to be asked about, and, unless it is the asker, somebody.
func validateSpec(s *authorizationv1.SubjectAccessReviewSpec, needSubject bool) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	const one = "cannot be specified in combination with resourceAttributes"
	switch {
	case s.ResourceAttributes != nil && s.NonResourceAttributes != nil:
		errs = append(errs, field.Invalid(path.Child("nonResourceAttributes"), s.NonResourceAttributes, one))
	case s.ResourceAttributes == nil && s.NonResourceAttributes == nil:
		errs = append(errs, field.Invalid(path.Child("resourceAttributes"), s.NonResourceAttributes, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if needSubject && s.User == "" && len(s.Groups) == 0 {
		errs = append(errs, field.Invalid(path.Child("user"), s.User, "at least one of user or group must be specified"))
	}
	return errs
}

// SelfSubjectRulesReview asks for a list of what the one who asks may do in a namespace: `kubectl auth can-i --list`.
var SelfSubjectRulesReview = resource.Define(scheme.Types, resource.Spec[authorizationv1.SelfSubjectRulesReview]{
	Names: names("SelfSubjectRulesReview", "selfsubjectrulesreviews"),
	Scope: resource.Cluster,
	Verbs: []string{"create"},
	Review: func(ctx context.Context, r *authorizationv1.SelfSubjectRulesReview, judge resource.Judge) error {
		user := request.User(ctx)
		if user == nil {
			return apierrors.NewBadRequest("no user present on request")
		}
		if r.Spec.Namespace == "" {
			return apierrors.NewBadRequest("no namespace on request")
		}
		r.Status = judge.Rules(ctx, user.Name, user.UID, user.Groups, r.Spec.Namespace)
		return nil
	},
})
