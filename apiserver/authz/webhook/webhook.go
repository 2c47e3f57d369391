// Package webhook lets a server decide who may do what: it is asked by SubjectAccessReviews, and its answers are
// remembered for a while. Match conditions say which requests it is asked about.
//
// A server that cannot be asked has no opinion, or refuses, as configured.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/cel-go/cel"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/selection"

	"hardway/apiserver/authz"
	"hardway/apiserver/expression"
	"hardway/apiserver/request"
	"hardway/apiserver/review"
)

// Options are one webhook.
type Options struct {
	Kubeconfig string
	// Version of SubjectAccessReview: v1, or v1beta1 for old servers.
	Version string
	// Allowed and Refused are how long answers hold.
	Allowed, Refused time.Duration
	// Timeout bounds one attempt.
	Timeout time.Duration
	// DenyOnFailure refuses when the server cannot be asked.
	DenyOnFailure bool
	// Match are CEL expressions over "request", a SubjectAccessReviewSpec: the server is asked only when all are true.
	Match []string
}

const (
	// remembered is how many answers are remembered.
	remembered = 8192
	// maxField bounds what of a request a question carries to be remembered: who writes long names is asked about anew.
	maxQuestion = 10_000
)

// Authorizer asks the server.
type Authorizer struct {
	o       Options
	client  *review.Client
	answers *review.Answers[authorizationv1.SubjectAccessReviewStatus]
	match   []*expression.Program
	now     func() time.Time
}

// New reads the kubeconfig file and compiles the conditions.
func New(o Options) (*Authorizer, error) {
	if o.Version != "v1" && o.Version != "v1beta1" {
		return nil, fmt.Errorf("authorization webhook: the version is v1 or v1beta1, not %q", o.Version)
	}
	client, err := review.Open(o.Kubeconfig, 0, o.Timeout)
	if err != nil {
		return nil, fmt.Errorf("authorization webhook: %w", err)
	}
	a := &Authorizer{o: o, client: client, answers: review.NewAnswers[authorizationv1.SubjectAccessReviewStatus](remembered), now: time.Now}
	env, err := expression.NewEnv(expression.Variable{Name: "request", Type: reflect.TypeFor[authorizationv1.SubjectAccessReviewSpec]()})
	if err != nil {
		return nil, err
	}
	for i, text := range o.Match {
		p, err := env.Compile(text, cel.BoolType)
		if err != nil {
			return nil, fmt.Errorf("authorization webhook: match condition %d: %w", i, err)
		}
		a.match = append(a.match, p)
	}
	return a, nil
}

// Authorize asks, unless a condition or a remembered answer makes that needless.
func (a *Authorizer) Authorize(ctx context.Context, user *request.UserInfo, info *request.Info) (authz.Decision, string, error) {
	failed := authz.NoOpinion
	if a.o.DenyOnFailure {
		failed = authz.Deny
	}
	spec := question(user, info)
	concerned, err := a.concerned(ctx, &spec)
	switch {
	case err != nil:
		return failed, "", err
	case !concerned:
		return authz.NoOpinion, "", nil
	}
	key, err := json.Marshal(spec)
	if err != nil {
		return failed, "", err
	}
	status, known := a.answers.Get(key, a.now())
	if !known {
		if status, err = a.ask(ctx, spec); err != nil {
			return failed, "", fmt.Errorf("authorization webhook: %w", err)
		}
		holds := a.o.Refused
		if status.Allowed {
			holds = a.o.Allowed
		}
		if holds > 0 && len(key) <= maxQuestion {
			a.answers.Add(key, status, a.now().Add(holds))
		}
	}
	switch {
	case status.Denied && status.Allowed:
		return authz.Deny, "", errors.New("authorization webhook: the answer is both allowed and denied")
	case status.Denied:
		return authz.Deny, status.Reason, nil
	case status.Allowed:
		return authz.Allow, status.Reason, nil
	}
	return authz.NoOpinion, status.Reason, nil
}

// concerned evaluates the conditions. One that is false decides, even when another fails.
func (a *Authorizer) concerned(ctx context.Context, spec *authorizationv1.SubjectAccessReviewSpec) (bool, error) {
	var failed []error
	for _, m := range a.match {
		ok, err := m.Bool(ctx, map[string]any{"request": spec})
		switch {
		case err != nil:
			failed = append(failed, err)
		case !ok:
			return false, nil
		}
	}
	return len(failed) == 0, errors.Join(failed...)
}

func (a *Authorizer) ask(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	q := &authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authorizationv1.GroupName + "/" + a.o.Version, Kind: "SubjectAccessReview"}, Spec: spec,
	}
	var sent any = q
	if a.o.Version == "v1beta1" {
		sent = old(q)
	}
	var answer authorizationv1.SubjectAccessReview
	if err := a.client.Ask(ctx, sent, &answer); err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	return answer.Status, nil
}

// old writes a question as v1beta1 has it, where groups are called group.
func old(q *authorizationv1.SubjectAccessReview) any {
	type spec struct {
		authorizationv1.SubjectAccessReviewSpec `json:",inline"`
		Groups                                  []string `json:"groups,omitempty"` // hides the embedded one
		Group                                   []string `json:"group,omitempty"`
	}
	return struct {
		metav1.TypeMeta `json:",inline"`
		Spec            spec `json:"spec"`
	}{q.TypeMeta, spec{SubjectAccessReviewSpec: q.Spec, Group: q.Spec.Groups}}
}

// question is what the server is asked about a request.
func question(user *request.UserInfo, info *request.Info) authorizationv1.SubjectAccessReviewSpec {
	var spec authorizationv1.SubjectAccessReviewSpec
	if user != nil {
		spec.User, spec.UID, spec.Groups = user.Name, user.UID, user.Groups
		for key, values := range user.Extra {
			if spec.Extra == nil {
				spec.Extra = map[string]authorizationv1.ExtraValue{}
			}
			spec.Extra[key] = values
		}
	}
	if !info.IsResource {
		spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: info.Path, Verb: info.Verb}
		return spec
	}
	spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
		Namespace: info.Namespace, Verb: info.Verb, Group: info.Group, Version: info.Version, Resource: info.Resource, Subresource: info.Subresource, Name: info.Name,
	}
	if r := requirements(info.Fields); len(r) > 0 {
		spec.ResourceAttributes.FieldSelector = &authorizationv1.FieldSelectorAttributes{Requirements: r}
	}
	return spec
}

func requirements(s fields.Selector) []metav1.FieldSelectorRequirement {
	if s == nil {
		return nil
	}
	var out []metav1.FieldSelectorRequirement
	for _, r := range s.Requirements() {
		operator := metav1.FieldSelectorOpIn
		if r.Operator == selection.NotEquals {
			operator = metav1.FieldSelectorOpNotIn
		}
		out = append(out, metav1.FieldSelectorRequirement{Key: r.Field, Operator: operator, Values: []string{r.Value}})
	}
	return out
}
