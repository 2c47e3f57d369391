package judge

import (
	"context"
	"errors"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"

	"hardway/apiserver/authz"
	"hardway/apiserver/request"
)

// rules allows what one function says.
type rules func(user *request.UserInfo, info *request.Info) (authz.Decision, error)

func (r rules) Authorize(_ context.Context, user *request.UserInfo, info *request.Info) (authz.Decision, string, error) {
	d, err := r(user, info)
	return d, "because", err
}

func TestMayAsksTheAuthorizer(t *testing.T) {
	judge := Judge{Authorizer: rules(func(user *request.UserInfo, info *request.Info) (authz.Decision, error) {
		switch {
		case user.Name == "jane" && user.In("devs") && info.IsResource && info.Verb == "get" && info.Resource == "pods" && info.Namespace == "dev":
			return authz.Allow, nil
		case !info.IsResource && info.Path == "/metrics":
			return authz.Deny, errors.New("broken rule")
		}
		return authz.NoOpinion, nil
	})}
	for _, test := range []struct {
		name string
		spec authorizationv1.SubjectAccessReviewSpec
		want authorizationv1.SubjectAccessReviewStatus
	}{
		{"allowed", authorizationv1.SubjectAccessReviewSpec{User: "jane", Groups: []string{"devs"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: "dev"}},
			authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: "because"}},
		{"no opinion is no", authorizationv1.SubjectAccessReviewSpec{User: "joe",
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: "dev"}},
			authorizationv1.SubjectAccessReviewStatus{Reason: "because"}},
		{"denied, with an error", authorizationv1.SubjectAccessReviewSpec{User: "joe",
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/metrics", Verb: "GET"}},
			authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: "because", EvaluationError: "broken rule"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := judge.May(t.Context(), &test.spec)
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
