// Package authentication declares the kinds of the group authentication.k8s.io: questions about who somebody is. They
// are answered and forgotten.
package authentication

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// SelfSubjectReview asks who the one is that asks: `kubectl auth whoami`.
var SelfSubjectReview = resource.Define(scheme.Types, resource.Spec[authenticationv1.SelfSubjectReview]{
	Names: resource.Names{Group: "authentication.k8s.io", Version: "v1", Kind: "SelfSubjectReview", Plural: "selfsubjectreviews"},
	Scope: resource.Cluster,
	Verbs: []string{"create"},
	Review: func(ctx context.Context, r *authenticationv1.SelfSubjectReview, _ resource.Authorize) error {
		user := request.User(ctx)
		if user == nil {
			return apierrors.NewBadRequest("no user present on request")
		}
		r.Status.UserInfo = authenticationv1.UserInfo{Username: user.Name, UID: user.UID, Groups: user.Groups}
		for key, values := range user.Extra {
			if r.Status.UserInfo.Extra == nil {
				r.Status.UserInfo.Extra = map[string]authenticationv1.ExtraValue{}
			}
			r.Status.UserInfo.Extra[key] = values
		}
		return nil
	},
})
