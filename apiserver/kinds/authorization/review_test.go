package authorization

import (
	"context"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/request"
)

func TestSelfReviewAsksForTheOneWhoAsks(t *testing.T) {
	var asked *authorizationv1.SubjectAccessReviewSpec
	may := judged(func(_ context.Context, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
		asked = spec
		return authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: "because"}, nil
	})
	ctx := request.With(t.Context(), &request.State{User: &request.UserInfo{
		Name: "eve", UID: "u", Groups: []string{"devs"}, Extra: map[string][]string{"scope": {"a"}},
	}})
	r := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods"},
	}}
	if err := SelfSubjectAccessReview.Review(ctx, r, may); err != nil {
		t.Fatal(err)
	}
	if !r.Status.Allowed || r.Status.Reason != "because" {
		t.Errorf("status %+v", r.Status)
	}
	if asked.User != "eve" || asked.Groups[0] != "devs" || asked.Extra["scope"][0] != "a" || asked.ResourceAttributes.Resource != "pods" {
		t.Errorf("asked about %+v", asked)
	}
	if err := SelfSubjectAccessReview.Review(t.Context(), r, may); err == nil {
		t.Error("answered nobody")
	}
}

func TestReviewsMustAskSomething(t *testing.T) {
	resource := &authorizationv1.ResourceAttributes{Verb: "get"}
	for name, tc := range map[string]struct {
		spec authorizationv1.SubjectAccessReviewSpec
		n    int
	}{
		"good":       {authorizationv1.SubjectAccessReviewSpec{User: "eve", ResourceAttributes: resource}, 0},
		"a group":    {authorizationv1.SubjectAccessReviewSpec{Groups: []string{"devs"}, ResourceAttributes: resource}, 0},
		"nobody":     {authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: resource}, 1},
		"nothing":    {authorizationv1.SubjectAccessReviewSpec{User: "eve"}, 1},
		"two things": {authorizationv1.SubjectAccessReviewSpec{User: "eve", ResourceAttributes: resource, NonResourceAttributes: &authorizationv1.NonResourceAttributes{}}, 1},
	} {
		if errs := SubjectAccessReview.Validate(&authorizationv1.SubjectAccessReview{Spec: tc.spec}); len(errs) != tc.n {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

// judged is a judge that only knows who may.
type judged func(context.Context, *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error)

func (j judged) May(ctx context.Context, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	return j(ctx, spec)
}
func (judged) Rules(context.Context, string, string, []string, string) (none authorizationv1.SubjectRulesReviewStatus) {
	return none
}
func (judged) Who(context.Context, *authenticationv1.TokenReviewSpec) (none authenticationv1.TokenReviewStatus) {
	return none
}
func (judged) Components(context.Context) []*corev1.ComponentStatus { return nil }

func (judged) Issue(context.Context, *corev1.ServiceAccount, *authenticationv1.TokenRequest) error {
	return nil
}
