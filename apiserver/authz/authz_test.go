package authz

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hardway/apiserver/request"
)

func TestModes(t *testing.T) {
	for modes, want := range map[string]string{
		"Node,RBAC": "", "AlwaysAllow": "", "ABAC,Webhook": "", "rbac": "unknown", "": "unknown", "RBAC,RBAC": "twice",
	} {
		err := CheckModes(strings.Split(modes, ","))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", modes, err, want)
		}
	}
}

// says has one opinion.
type says struct {
	d      Decision
	reason string
	err    error
}

func (s says) Authorize(context.Context, *request.UserInfo, *request.Info) (Decision, string, error) {
	return s.d, s.reason, s.err
}

func TestTheFirstOpinionCounts(t *testing.T) {
	broken := errors.New("broken")
	for name, row := range map[string]struct {
		chain  Chain
		user   request.UserInfo
		d      Decision
		reason string
		err    error
	}{
		"nobody":             {chain: Chain{says{}, says{reason: "a"}, says{reason: "b"}}, reason: "a\nb"},
		"the second":         {chain: Chain{says{reason: "a"}, says{d: Allow, reason: "b"}}, d: Allow, reason: "b"},
		"a denial":           {chain: Chain{says{d: Deny, reason: "no"}, says{d: Allow}}, d: Deny, reason: "no"},
		"an error goes on":   {chain: Chain{says{err: broken}, says{d: Allow}}, d: Allow},
		"an error is told":   {chain: Chain{says{err: broken}, says{}}, err: broken},
		"masters are let in": {chain: Chain{says{d: Deny}}, user: request.UserInfo{Groups: []string{request.Masters}}, d: Allow},
	} {
		d, reason, err := row.chain.Authorize(t.Context(), &row.user, &request.Info{})
		if d != row.d || reason != row.reason || !errors.Is(err, row.err) {
			t.Errorf("%s: %v %q %v", name, d, reason, err)
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
