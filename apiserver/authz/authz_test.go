package authz

import (
	"context"
	"errors"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"

	"hardway/apiserver/request"
)

func TestModes(t *testing.T) {
	for mode, want := range map[string]string{
		"AlwaysAllow": "", "RBAC": "comes later", "Node": "comes later", "Webhook": "comes later", "ABAC": "comes later",
		"rbac": "unknown", "": "unknown",
	} {
		err := CheckMode(mode)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", mode, err, want)
		}
		if _, newErr := New([]string{mode}); (newErr == nil) != (err == nil) {
			t.Errorf("New of %q: %v", mode, newErr)
		}
	}
}

func TestForbiddenSentence(t *testing.T) {
	jane := &request.UserInfo{Name: "jane<b>"}
	for want, info := range map[string]*request.Info{
		`User "jane&lt;b&gt;" cannot get path "/metrics"`: {Verb: "get", Path: "/metrics"},
		`User "jane&lt;b&gt;" cannot list resource "pods" in API group "" at the cluster scope`: {
			IsResource: true, Verb: "list", Resource: "pods"},
		`User "jane&lt;b&gt;" cannot update resource "deployments/scale" in API group "apps" in the namespace "dev"`: {
			IsResource: true, Verb: "update", Group: "apps", Resource: "deployments", Subresource: "scale", Namespace: "dev", Name: "web"},
	} {
		if got := Forbidden(jane, info); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// rules allows what one function says.
type rules func(user *request.UserInfo, info *request.Info) (Decision, error)

func (r rules) Authorize(_ context.Context, user *request.UserInfo, info *request.Info) (Decision, string, error) {
	d, err := r(user, info)
	return d, "because", err
}

func TestReviewerAsksTheAuthorizer(t *testing.T) {
	may := Reviewer(rules(func(user *request.UserInfo, info *request.Info) (Decision, error) {
		switch {
		case user.Name == "jane" && user.In("devs") && info.IsResource && info.Verb == "get" && info.Resource == "pods" && info.Namespace == "dev":
			return Allow, nil
		case !info.IsResource && info.Path == "/metrics":
			return Deny, errors.New("broken rule")
		}
		return NoOpinion, nil
	}))
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
			got, err := may(t.Context(), &test.spec)
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
