package authz

import (
	"context"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"

	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// Reviewer lets access reviews ask the authorizer: the same answer as a request would get.
func Reviewer(a Authorizer) resource.Authorize {
	return func(ctx context.Context, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
		user := &request.UserInfo{Name: spec.User, UID: spec.UID, Groups: spec.Groups, Extra: map[string][]string{}}
		for name, values := range spec.Extra {
			user.Extra[name] = values
		}
		decision, reason, err := a.Authorize(ctx, user, asked(spec))
		status := authorizationv1.SubjectAccessReviewStatus{Allowed: decision == Allow, Denied: decision == Deny, Reason: reason}
		if err != nil {
			status.EvaluationError = err.Error()
		}
		return status, nil
	}
}

// asked is the request that a review is about.
func asked(spec *authorizationv1.SubjectAccessReviewSpec) *request.Info {
	if n := spec.NonResourceAttributes; n != nil {
		return &request.Info{Path: n.Path, Verb: strings.ToLower(n.Verb)}
	}
	info := &request.Info{IsResource: true}
	if r := spec.ResourceAttributes; r != nil {
		info.Verb, info.Group, info.Version, info.Resource = r.Verb, r.Group, r.Version, r.Resource
		info.Subresource, info.Namespace, info.Name = r.Subresource, r.Namespace, r.Name
	}
	return info
}
