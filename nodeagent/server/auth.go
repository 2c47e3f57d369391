package server

import (
	"cmp"
	"context"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	"hardway/nodeagent/serve/auth"
	"hardway/shared/client"
)

// The kinds with which the apiserver is asked about others; they are only ever created.
var (
	tokenReviews = client.Kind[authenticationv1.TokenReview, authenticationv1.TokenReview]{
		GroupVersion: authenticationv1.SchemeGroupVersion, Name: "TokenReview", Plural: "tokenreviews",
	}
	accessReviews = client.Kind[authorizationv1.SubjectAccessReview, authorizationv1.SubjectAccessReview]{
		GroupVersion: authorizationv1.SchemeGroupVersion, Name: "SubjectAccessReview", Plural: "subjectaccessreviews",
	}
)

// reviewTimeout bounds a question: the client that waits for it is itself being waited for.
const reviewTimeout = 10 * time.Second

type reviewer struct{ api *client.API }

// Token implements auth.Reviewer.
func (r reviewer) Token(ctx context.Context, token string) (authenticationv1.TokenReviewStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	got, err := tokenReviews.Create(ctx, r.api, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}})
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	return got.Status, nil
}

// Access implements auth.Reviewer.
func (r reviewer) Access(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	got, err := accessReviews.Create(ctx, r.api, &authorizationv1.SubjectAccessReview{Spec: spec})
	if err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	return got.Status, nil
}

// apiservers are the users that apiservers present to nodes, ours and upstream's. Where no authorization mode is set they
// need no further leave.
var apiservers = []string{"kube-apiserver-kubelet-client", "kubernetes", "kube-apiserver", "hardway-apiserver"}

// authOptions reads from the configuration who may ask port 10250.
func (a *agent) authOptions() auth.Options {
	k := &a.cfg.Kubelet
	o := auth.Options{
		Node: a.cfg.Hostname, Reviewer: reviewer{a.api},
		Tokens:   k.Authentication.Webhook.Enabled == nil || *k.Authentication.Webhook.Enabled,
		Any:      strings.EqualFold(string(k.Authorization.Mode), "AlwaysAllow"),
		TokenTTL: cmp.Or(k.Authentication.Webhook.CacheTTL.Duration, 2*time.Minute),
		AllowTTL: cmp.Or(k.Authorization.Webhook.CacheAuthorizedTTL.Duration, 5*time.Minute),
		DenyTTL:  cmp.Or(k.Authorization.Webhook.CacheUnauthorizedTTL.Duration, 30*time.Second),
	}
	if k.Authorization.Mode == "" {
		o.Callers = apiservers
	}
	return o
}
