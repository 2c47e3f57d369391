// Package authentication declares the kinds of the group authentication.k8s.io: questions about who somebody is. They
// are answered and forgotten.
package authentication

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

const group, version = "authentication.k8s.io", "v1"

// SelfSubjectReview asks who the one is that asks: `kubectl auth whoami`.
var SelfSubjectReview = resource.Define(scheme.Types, resource.Spec[authenticationv1.SelfSubjectReview]{
	Names: resource.Names{Group: group, Version: version, Kind: "SelfSubjectReview", Plural: "selfsubjectreviews"},
	Scope: resource.Cluster,
	Verbs: []string{"create"},
	Review: func(ctx context.Context, r *authenticationv1.SelfSubjectReview, _ resource.Judge) error {
		user := request.User(ctx)
		if user == nil {
			return apierrors.NewBadRequest("no user present on request")
		}
		r.Status.UserInfo = userInfo(user)
		return nil
	},
})

// TokenReview asks for whom a token stands: how other servers of the cluster log their callers in.
var TokenReview = resource.Define(scheme.Types, resource.Spec[authenticationv1.TokenReview]{
	Names: resource.Names{Group: group, Version: version, Kind: "TokenReview", Plural: "tokenreviews"},
	Scope: resource.Cluster,
	Verbs: []string{"create"},
	Validate: func(r *authenticationv1.TokenReview) field.ErrorList {
		if r.Spec.Token == "" {
			return field.ErrorList{field.Required(field.NewPath("spec", "token"), "token is required for TokenReview in authentication")}
		}
		return nil
	},
	Review: func(ctx context.Context, r *authenticationv1.TokenReview, judge resource.Judge) error {
		r.Status = judge.Who(ctx, &r.Spec)
		return nil
	},
})

func userInfo(user *request.UserInfo) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: user.Name, UID: user.UID, Groups: user.Groups}
	for key, values := range user.Extra {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[key] = values
	}
	return out
}
