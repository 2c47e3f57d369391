// Package authz decides whether a user may do what a request asks for, and says why.
package authz

import (
	"context"
	"fmt"
	"strings"

	"hardway/apiserver/request"
)

// Decision is what an Authorizer thinks of a request.
type Decision int

// The decisions. NoOpinion leaves it to the next Authorizer; at the end of the chain it means no.
const (
	NoOpinion Decision = iota
	Allow
	Deny
)

// Authorizer decides about one request. The reason is a sentence for the person who is refused.
type Authorizer interface {
	Authorize(ctx context.Context, user *request.UserInfo, info *request.Info) (d Decision, reason string, err error)
}

// AlwaysAllow lets every authenticated user do everything, and anonymous ones what authentication let through.
type AlwaysAllow struct{}

// Authorize allows.
func (AlwaysAllow) Authorize(context.Context, *request.UserInfo, *request.Info) (Decision, string, error) {
	return Allow, "", nil
}

// later holds the modes of --authorization-mode that are not served yet, with the reason.
var later = map[string]string{
	"RBAC":    "role bindings are not evaluated yet",
	"Node":    "node identities are not restricted yet",
	"Webhook": "authorization webhooks are not called yet",
	"ABAC":    "policy files are not read yet",
}

// CheckMode returns an error that says what is wrong with one name given to --authorization-mode.
func CheckMode(mode string) error {
	if mode == "AlwaysAllow" {
		return nil
	}
	if why, ok := later[mode]; ok {
		return fmt.Errorf("authorization mode %s comes later: %s; use AlwaysAllow", mode, why)
	}
	return fmt.Errorf("authorization mode %q is unknown: only AlwaysAllow is served", mode)
}

// New returns the Authorizer for the names given to --authorization-mode.
func New(modes []string) (Authorizer, error) {
	for _, m := range modes {
		if err := CheckMode(m); err != nil {
			return nil, err
		}
	}
	return AlwaysAllow{}, nil
}

// Forbidden is upstream's sentence about a refused request, without the reason.
func Forbidden(user *request.UserInfo, info *request.Info) string {
	name := ""
	if user != nil {
		name = user.Name
	}
	if !info.IsResource {
		return clean.Replace(fmt.Sprintf("User %q cannot %s path %q", name, info.Verb, info.Path))
	}
	what := info.Resource
	if info.Subresource != "" {
		what += "/" + info.Subresource
	}
	where := "at the cluster scope"
	if info.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", info.Namespace)
	}
	return clean.Replace(fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", name, info.Verb, what, info.Group, where))
}

// clean keeps what a user typed from being markup in a browser.
var clean = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
