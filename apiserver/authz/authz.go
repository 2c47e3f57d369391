// Package authz decides whether a user may do what a request asks for, and says why.
//
// The authorizers named by --authorization-mode are asked in order, and the first that has an opinion decides; members of
// system:masters are let through before, so that nobody is locked out. Each authorizer is a package below: rbac, node,
// abac, webhook.
package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Authorizer decides about one request. The reason is a sentence for the person who is refused, or for the audit log.
type Authorizer interface {
	Authorize(ctx context.Context, user *request.UserInfo, info *request.Info) (d Decision, reason string, err error)
}

// Modes are the names that --authorization-mode takes.
var Modes = []string{"Node", "RBAC", "ABAC", "Webhook", "AlwaysAllow", "AlwaysDeny"}

// CheckModes returns an error that says what is wrong with the names given to --authorization-mode.
func CheckModes(modes []string) error {
	if len(modes) == 0 {
		return errors.New("at least one authorization mode is needed")
	}
	for i, m := range modes {
		if !slices.Contains(Modes, m) {
			return fmt.Errorf("authorization mode %q is unknown: it is one of %s", m, strings.Join(Modes, ", "))
		}
		if slices.Contains(modes[:i], m) {
			return fmt.Errorf("authorization mode %q is given twice", m)
		}
	}
	return nil
}

// AlwaysAllow lets everybody do everything that authentication let through.
type AlwaysAllow struct{}

// Authorize allows.
func (AlwaysAllow) Authorize(context.Context, *request.UserInfo, *request.Info) (Decision, string, error) {
	return Allow, "", nil
}

// Paths allows reading the paths that it says are for everybody.
type Paths func(path string) bool

// Authorize allows reading a public path.
func (p Paths) Authorize(_ context.Context, _ *request.UserInfo, info *request.Info) (Decision, string, error) {
	if !info.IsResource && (info.Verb == "get" || info.Verb == "head") && p(info.Path) {
		return Allow, "the path is public", nil
	}
	return NoOpinion, "", nil
}

// AlwaysDeny refuses everything.
type AlwaysDeny struct{}

// Authorize has no opinion, which at the end of the chain means no.
func (AlwaysDeny) Authorize(context.Context, *request.UserInfo, *request.Info) (Decision, string, error) {
	return NoOpinion, "Everything is forbidden.", nil
}

// Chain asks its members in order. Members of system:masters are allowed everything.
type Chain []Authorizer

// Authorize returns the first opinion. Without one, the reasons and errors of all are joined.
func (c Chain) Authorize(ctx context.Context, user *request.UserInfo, info *request.Info) (Decision, string, error) {
	if user.In(request.Masters) {
		return Allow, "", nil
	}
	var reasons []string
	var errs []error
	for _, a := range c {
		d, reason, err := a.Authorize(ctx, user, info)
		if d != NoOpinion {
			return d, reason, err
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
		errs = append(errs, err)
	}
	return NoOpinion, strings.Join(reasons, "\n"), errors.Join(errs...)
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
