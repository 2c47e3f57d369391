package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"hardway/apiserver/authn"
	"hardway/apiserver/authn/oidc"
	"hardway/apiserver/authz"
	"hardway/apiserver/authz/abac"
	"hardway/apiserver/authz/configuration"
	"hardway/apiserver/authz/node"
	"hardway/apiserver/authz/rbac"
	"hardway/apiserver/authz/webhook"
	"hardway/apiserver/config"
)

// issuers makes what knows the tokens of OpenID Connect issuers, by flags or by a file; none without either. The file's
// word about anonymous requests goes into o.
func (a *access) issuers(o *authn.Options) error {
	list, err := issuersOf(a.cfg, o.Audiences)
	if err != nil || list == nil {
		return err
	}
	if who := list.anonymous; who != nil {
		if a.cfg.Anonymous != nil {
			return errors.New("--anonymous-auth and anonymous in --authentication-config exclude each other")
		}
		o.Anonymous = authn.AnonymousNever
		if who.Enabled {
			o.Anonymous = authn.AnonymousAlways
		}
		if len(who.Conditions) > 0 {
			paths := who.Conditions
			o.Anonymous = authn.AnonymousHealth
			o.Public = func(path string) bool { return slices.Contains(paths, oidc.Condition{Path: path}) }
		}
	}
	group := &authn.Replaceable{}
	group.Replace(list.tokens)
	o.Tokens = append(o.Tokens, group)
	if path := a.cfg.Outside.Authentication; path != "" {
		a.reloads = append(a.reloads, &reload{path: path, read: func() error {
			list, err := issuersOf(a.cfg, o.Audiences)
			if err == nil {
				group.Replace(list.tokens)
			}
			return err
		}})
	}
	return nil
}

// known are issuers and what the same file says about anonymous requests.
type known struct {
	tokens    []authn.Token
	anonymous *oidc.Anonymous
}

func issuersOf(cfg *config.Access, audiences []string) (*known, error) {
	var issuers []oidc.Issuer
	out := &known{}
	switch f := cfg.Outside.OIDC; {
	case cfg.Outside.Authentication != "":
		c, err := oidc.Load(cfg.Outside.Authentication, cfg.ServiceAccount.Issuers)
		if err != nil {
			return nil, err
		}
		issuers, out.anonymous = c.JWT, c.Anonymous
	case f.Issuer != "":
		one, err := issuerOf(&f)
		if err != nil {
			return nil, err
		}
		issuers = []oidc.Issuer{one}
	default:
		return nil, nil
	}
	for _, c := range issuers {
		token, err := oidc.New(c, oidc.Options{Audiences: audiences})
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", c.Issuer.URL, err)
		}
		out.tokens = append(out.tokens, token)
	}
	return out, nil
}

// issuerOf writes the flags as a configuration.
func issuerOf(f *config.OIDC) (oidc.Issuer, error) {
	var c oidc.Issuer
	c.Issuer.URL, c.Issuer.Audiences, c.Algorithms = f.Issuer, []string{f.Client}, f.Algorithms
	if f.CAFile != "" {
		ca, err := os.ReadFile(f.CAFile)
		if err != nil {
			return c, fmt.Errorf("--oidc-ca-file: %w", err)
		}
		c.Issuer.CertificateAuthority = string(ca)
	}
	prefix := f.UsernamePrefix
	switch {
	case prefix == "-", prefix == "" && f.UsernameClaim == "email":
		prefix = ""
	case prefix == "":
		prefix = f.Issuer + "#"
	}
	c.Mappings.Username = oidc.Mapping{Claim: f.UsernameClaim, Prefix: &prefix}
	if f.GroupsClaim != "" {
		c.Mappings.Groups = oidc.Mapping{Claim: f.GroupsClaim, Prefix: &f.GroupsPrefix}
	}
	for _, claim := range slices.Sorted(maps.Keys(f.Required)) {
		c.ClaimRules = append(c.ClaimRules, oidc.ClaimRule{Claim: claim, RequiredValue: f.Required[claim]})
	}
	return c, nil
}

// authorizers makes the chain that flags or a file ask for.
func (a *access) authorizers() error {
	r := &authz.Replaceable{}
	a.authorizer = r
	chain, err := a.chain(true)
	if err != nil {
		return err
	}
	r.Replace(chain)
	if path := a.cfg.Outside.Authorization; path != "" {
		a.reloads = append(a.reloads, &reload{path: path, read: func() error {
			chain, err := a.chain(false)
			if err == nil {
				r.Replace(chain)
			}
			return err
		}})
	}
	return nil
}

// chain makes the authorizers. Node and RBAC follow the cluster from the start on: later none can be added.
func (a *access) chain(first bool) (authz.Chain, error) {
	o := &a.cfg.Outside
	var list []configuration.Authorizer
	if o.Authorization != "" {
		var err error
		if list, err = configuration.Load(o.Authorization); err != nil {
			return nil, err
		}
	} else {
		w := o.AccessWebhook
		for _, mode := range a.cfg.Modes {
			list = append(list, configuration.Authorizer{Type: mode, Webhook: &webhook.Options{
				Kubeconfig: w.Kubeconfig, Version: w.Version, Allowed: w.Remember, Refused: w.Refused, Timeout: webhookTimeout,
			}})
		}
	}
	chain := authz.Chain{authz.Paths(authn.Public)} // health is asked for before the roles are known
	for _, one := range list {
		member, err := a.member(one, first)
		if err != nil {
			return nil, err
		}
		chain = append(chain, member)
	}
	return chain, nil
}

// webhookTimeout bounds an attempt of a webhook that flags configure.
const webhookTimeout = 30 * time.Second

func (a *access) member(one configuration.Authorizer, first bool) (authz.Authorizer, error) {
	switch one.Type {
	case "AlwaysAllow":
		return authz.AlwaysAllow{}, nil
	case "AlwaysDeny":
		return authz.AlwaysDeny{}, nil
	case "RBAC":
		if a.roles == nil && first {
			a.roles = rbac.New()
		}
		if a.roles == nil {
			return nil, errors.New("the authorizer RBAC can only be added by a restart")
		}
		return a.roles, nil
	case "Node":
		if a.nodes == nil && first {
			a.nodes = node.New(a.look, rbac.RulesAllow(node.Role(a.policy.ClusterRoles)))
		}
		if a.nodes == nil {
			return nil, errors.New("the authorizer Node can only be added by a restart")
		}
		return a.nodes, nil
	case "ABAC":
		if a.cfg.ABACFile == "" {
			return nil, errors.New("--authorization-policy-file is needed for the authorizer ABAC")
		}
		return abac.Open(a.cfg.ABACFile)
	case "Webhook":
		w, err := webhook.New(*one.Webhook)
		if err != nil && one.Name != "" {
			err = fmt.Errorf("authorizer %s: %w", one.Name, err)
		}
		return w, err
	}
	return nil, fmt.Errorf("the authorizer %q is unknown", one.Type)
}

// reload reads a file again when it has changed.
type reload struct {
	path string
	read func() error
	last []byte // what was read
}

// reloadEvery is how often files are looked at.
const reloadEvery = 5 * time.Second

// reloadFiles watches over the files until ctx ends. What cannot be used leaves all as it was.
func (s *server) reloadFiles(ctx context.Context) error {
	for _, r := range s.access.reloads {
		r.last, _ = os.ReadFile(r.path) // it was read at the start
	}
	for len(s.access.reloads) > 0 && pause(ctx, reloadEvery) {
		for _, r := range s.access.reloads {
			s.again(r)
		}
	}
	<-ctx.Done()
	return nil
}

func (s *server) again(r *reload) {
	text, err := os.ReadFile(r.path)
	if err != nil || bytes.Equal(text, r.last) {
		return // absent for the moment in which it is replaced
	}
	r.last = text
	if err := r.read(); err != nil {
		s.log.Error("a changed file cannot be used, what was read before holds", zap.String("file", r.path), zap.Error(err))
		return
	}
	s.log.Info("a changed file was read", zap.String("file", r.path))
}
