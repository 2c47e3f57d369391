// Package judge answers the review kinds with what authentication and authorization say: the same answer as a request
// would get.
package judge

import (
	"context"
	"errors"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"hardway/apiserver/authn"
	"hardway/apiserver/authn/serviceaccount"
	"hardway/apiserver/authz"
	"hardway/apiserver/request"
)

// Judge is a resource.Judge.
type Judge struct {
	Authenticator *authn.Authenticator
	Authorizer    authz.Authorizer
	Tokens        *serviceaccount.Tokens
	// Known lists the rules that hold for a user, with the roles that are missing; nil: no authorizer has any.
	Known func(user *request.UserInfo, namespace string) ([]rbacv1.PolicyRule, []string)
	// Etcd says what is wrong with the store; nil: nothing is.
	Etcd func(ctx context.Context) error
}

// May asks the authorizer.
func (j *Judge) May(ctx context.Context, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	user := &request.UserInfo{Name: spec.User, UID: spec.UID, Groups: spec.Groups, Extra: map[string][]string{}}
	for name, values := range spec.Extra {
		user.Extra[name] = values
	}
	decision, reason, err := j.Authorizer.Authorize(ctx, user, asked(spec))
	status := authorizationv1.SubjectAccessReviewStatus{Allowed: decision == authz.Allow, Denied: decision == authz.Deny, Reason: reason}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status, nil
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
		info.Fields = selector(r.FieldSelector)
	}
	return info
}

// Rules lists what a user may do in a namespace.
func (j *Judge) Rules(_ context.Context, user, uid string, groups []string, namespace string) authorizationv1.SubjectRulesReviewStatus {
	status := authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	u := &request.UserInfo{Name: user, UID: uid, Groups: groups}
	if u.In(request.Masters) || j.Known == nil {
		status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}})
		status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}})
	}
	if j.Known == nil {
		return status
	}
	rules, missing := j.Known(u, namespace)
	for _, r := range rules {
		if len(r.NonResourceURLs) > 0 {
			status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
			continue
		}
		status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{
			Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames,
		})
	}
	if len(missing) > 0 {
		status.Incomplete, status.EvaluationError = true, strings.Join(missing, ", ")
	}
	return status
}

// Who checks a token.
func (j *Judge) Who(ctx context.Context, spec *authenticationv1.TokenReviewSpec) authenticationv1.TokenReviewStatus {
	id, err := j.Authenticator.Token(ctx, spec.Token, spec.Audiences)
	if err != nil {
		return authenticationv1.TokenReviewStatus{Error: err.Error()}
	}
	audiences := id.Audiences
	switch {
	case len(spec.Audiences) == 0 && len(audiences) == 0:
		audiences = j.Authenticator.Audiences()
	case len(audiences) == 0: // the token is for this API server and nobody else
		for _, a := range spec.Audiences {
			for _, ours := range j.Authenticator.Audiences() {
				if a == ours {
					audiences = append(audiences, a)
				}
			}
		}
		if len(audiences) == 0 {
			return authenticationv1.TokenReviewStatus{Error: "the token is not for the audiences that were asked for"}
		}
	}
	status := authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: audiences,
		User: authenticationv1.UserInfo{Username: id.User.Name, UID: id.User.UID, Groups: id.User.Groups},
	}
	for key, values := range id.User.Extra {
		if status.User.Extra == nil {
			status.User.Extra = map[string]authenticationv1.ExtraValue{}
		}
		status.User.Extra[key] = values
	}
	return status
}

// Issue makes a token.
func (j *Judge) Issue(ctx context.Context, account *corev1.ServiceAccount, r *authenticationv1.TokenRequest) error {
	if j.Tokens == nil {
		return errors.New("the server has no keys for service account tokens")
	}
	return j.Tokens.Issue(ctx, account, r)
}
