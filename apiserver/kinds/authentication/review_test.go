package authentication

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"

	"hardway/apiserver/request"
)

func TestWhoAmI(t *testing.T) {
	r := &authenticationv1.SelfSubjectReview{}
	ctx := request.With(t.Context(), &request.State{User: &request.UserInfo{Name: "eve", Groups: []string{"devs"}, Extra: map[string][]string{"a": {"b"}}}})
	if err := SelfSubjectReview.Review(ctx, r, nil); err != nil {
		t.Fatal(err)
	}
	if u := r.Status.UserInfo; u.Username != "eve" || u.Groups[0] != "devs" || u.Extra["a"][0] != "b" {
		t.Errorf("I am %+v", u)
	}
	if err := SelfSubjectReview.Review(t.Context(), r, nil); err == nil {
		t.Error("answered nobody")
	}
}
