// Package oidc lets users in with the tokens of OpenID Connect issuers: JWTs that are signed with a key of the issuer, meant
// for one of the configured audiences, and in time. Claims become users as the configuration says, by name or by CEL
// expressions; rules may refuse more.
//
// An issuer is asked for its keys when a token of it is first seen, and when one names a key that is not known, at most
// every ten seconds. What was found out about a token holds for ten seconds.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/ref"
	authenticationv1 "k8s.io/api/authentication/v1"

	"hardway/apiserver/authn"
	"hardway/apiserver/expression"
	"hardway/apiserver/request"
	"hardway/apiserver/review"
)

// algorithms are those with public keys.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512,
}

const (
	remembered = 4096
	holds      = 10 * time.Second
	// leeway is how far the issuer's clock may be ahead.
	leeway = 10 * time.Second
)

// Options are what is not in the configuration.
type Options struct {
	// Audiences are the names of this API server.
	Audiences []string
	Now       func() time.Time // nil: the real clock
}

// Authenticator is one issuer. It is an authn.Token, and safe for concurrent use.
type Authenticator struct {
	c          Issuer
	o          Options
	algorithms []jose.SignatureAlgorithm
	keys       *keys
	answers    *review.Answers[*request.UserInfo]

	username, groups, uid *expression.Program // nil: a claim, or nothing
	extra                 []*expression.Program
	claimRules, userRules []*expression.Program // nil: a claim's value
}

// New compiles the configuration of an issuer. Nobody is asked yet.
func New(c Issuer, o Options) (*Authenticator, error) {
	if errs := c.check(nil); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Authenticator{c: c, o: o, algorithms: algorithms, answers: review.NewAnswers[*request.UserInfo](remembered)}
	if len(c.Algorithms) > 0 {
		a.algorithms = nil
		for _, name := range c.Algorithms {
			if !slices.Contains(algorithms, jose.SignatureAlgorithm(name)) {
				return nil, fmt.Errorf("the signature algorithm %q is none of %v", name, algorithms)
			}
			a.algorithms = append(a.algorithms, jose.SignatureAlgorithm(name))
		}
	}
	var err error
	if a.keys, err = newKeys(&c, o.Now); err != nil {
		return nil, err
	}
	return a, a.compile()
}

// compile compiles the expressions.
func (a *Authenticator) compile() error {
	claims, err := expression.NewEnv(expression.Variable{Name: "claims"})
	if err != nil {
		return err
	}
	users, err := expression.NewEnv(expression.Variable{Name: "user", Type: reflect.TypeFor[authenticationv1.UserInfo]()})
	if err != nil {
		return err
	}
	var errs []error
	compile := func(env *expression.Env, at, text string, yields ...*cel.Type) *expression.Program {
		if text == "" {
			return nil
		}
		p, err := env.Compile(text, yields...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		}
		return p
	}
	text, texts := cel.StringType, cel.ListType(cel.StringType)
	m := &a.c.Mappings
	a.username = compile(claims, "claimMappings.username", m.Username.Expression, text)
	a.groups = compile(claims, "claimMappings.groups", m.Groups.Expression, text, texts, cel.ListType(cel.DynType), cel.NullType)
	a.uid = compile(claims, "claimMappings.uid", m.UID.Expression, text)
	for i, e := range m.Extra {
		a.extra = append(a.extra, compile(claims, fmt.Sprintf("claimMappings.extra[%d]", i), e.ValueExpression, text, texts, cel.ListType(cel.DynType), cel.NullType))
	}
	for i, r := range a.c.ClaimRules {
		a.claimRules = append(a.claimRules, compile(claims, fmt.Sprintf("claimValidationRules[%d]", i), r.Expression, cel.BoolType))
	}
	for i, r := range a.c.UserRules {
		a.userRules = append(a.userRules, compile(users, fmt.Sprintf("userValidationRules[%d]", i), r.Expression, cel.BoolType))
	}
	return errors.Join(errs...)
}

// Authenticate checks a token. It returns authn.ErrNotMine for one of another issuer.
func (a *Authenticator) Authenticate(ctx context.Context, token string, audiences []string) (*authn.Identity, error) {
	shared := a.o.Audiences
	if len(audiences) > 0 {
		shared = slices.DeleteFunc(slices.Clone(audiences), func(w string) bool { return !slices.Contains(a.o.Audiences, w) })
	}
	user, known := a.answers.Get([]byte(token), a.o.Now())
	if !known {
		if !a.mine(token) {
			return nil, authn.ErrNotMine
		}
		var end time.Time
		var err error
		if user, end, err = a.verify(ctx, token); err != nil {
			return nil, fmt.Errorf("token of %s: %w", a.c.Issuer.URL, err)
		}
		if soon := a.o.Now().Add(holds); end.After(soon) {
			end = soon
		}
		a.answers.Add([]byte(token), user, end)
	}
	if len(shared) == 0 {
		return nil, fmt.Errorf("token of %s: it is for this API server, not for %q", a.c.Issuer.URL, audiences)
	}
	return &authn.Identity{User: user, Audiences: shared}, nil
}

// mine reads the issuer without trusting it.
func (a *Authenticator) mine(token string) bool {
	if strings.Count(token, ".") != 2 {
		return false
	}
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return false
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	return parsed.UnsafeClaimsWithoutVerification(&c) == nil && c.Issuer == a.c.Issuer.URL
}

// times are the claims that say when and for whom a token is.
type times struct {
	Audience  jwt.Audience     `json:"aud"`
	Expiry    *jwt.NumericDate `json:"exp"`
	NotBefore *jwt.NumericDate `json:"nbf"`
}

// verify checks signature, times and audience, and makes the user. end is when the token expires.
func (a *Authenticator) verify(ctx context.Context, token string) (user *request.UserInfo, end time.Time, err error) {
	parsed, err := jwt.ParseSigned(token, a.algorithms)
	if err != nil {
		return nil, end, err
	}
	known, err := a.keys.find(ctx, parsed.Headers[0].KeyID)
	if err != nil {
		return nil, end, err
	}
	var registered times
	claims := map[string]any{}
	if !slices.ContainsFunc(known, func(key jose.JSONWebKey) bool { return parsed.Claims(key, &registered, &claims) == nil }) {
		return nil, end, errors.New("its signature is by no key of the issuer")
	}
	now := a.o.Now()
	switch {
	case registered.Expiry == nil:
		return nil, end, errors.New("it has no end")
	case !now.Before(registered.Expiry.Time()):
		return nil, end, errors.New("it has expired")
	case registered.NotBefore != nil && now.Add(leeway).Before(registered.NotBefore.Time()):
		return nil, end, errors.New("it is not valid yet")
	case !slices.ContainsFunc(registered.Audience, func(aud string) bool { return slices.Contains(a.c.Issuer.Audiences, aud) }):
		return nil, end, fmt.Errorf("it is for %q, not for %q", []string(registered.Audience), a.c.Issuer.Audiences)
	}
	user, err = a.user(ctx, claims)
	return user, registered.Expiry.Time(), err
}

// user makes the user of verified claims, and asks the rules.
func (a *Authenticator) user(ctx context.Context, claims map[string]any) (*request.UserInfo, error) {
	vars := map[string]any{"claims": claims}
	for i, r := range a.c.ClaimRules {
		if p := a.claimRules[i]; p != nil {
			if err := holdsTrue(ctx, p, vars, r.Message); err != nil {
				return nil, err
			}
		} else if has, _ := claims[r.Claim].(string); has != r.RequiredValue {
			return nil, fmt.Errorf("its claim %q is not %q", r.Claim, r.RequiredValue)
		}
	}
	user := &request.UserInfo{}
	m := &a.c.Mappings
	name, err := a.one(ctx, "username", m.Username, a.username, claims, true)
	if err != nil {
		return nil, err
	}
	if m.Username.Claim == "email" {
		if verified, has := claims["email_verified"]; has && verified != true {
			return nil, errors.New("its email is not verified")
		}
	}
	user.Name = name
	if user.UID, err = a.one(ctx, "uid", m.UID, a.uid, claims, false); err != nil {
		return nil, err
	}
	if user.Groups, err = a.many(ctx, "groups", m.Groups, a.groups, claims); err != nil {
		return nil, err
	}
	for i, e := range m.Extra {
		values, err := a.many(ctx, "extra", e, a.extra[i], claims)
		if err != nil {
			return nil, err
		}
		if len(values) > 0 {
			if user.Extra == nil {
				user.Extra = map[string][]string{}
			}
			user.Extra[e.Key] = values
		}
	}
	if id, _ := claims["jti"].(string); id != "" {
		if user.Extra == nil {
			user.Extra = map[string][]string{}
		}
		user.Extra["authentication.kubernetes.io/credential-id"] = []string{"JTI=" + id}
	}
	if err := a.ruled(ctx, user); err != nil {
		return nil, err
	}
	user.Groups = append(user.Groups, request.Authenticated)
	return user, nil
}

// ruled asks the rules about a user.
func (a *Authenticator) ruled(ctx context.Context, user *request.UserInfo) error {
	if len(a.userRules) == 0 {
		return nil
	}
	info := authenticationv1.UserInfo{Username: user.Name, UID: user.UID, Groups: user.Groups, Extra: map[string]authenticationv1.ExtraValue{}}
	for key, values := range user.Extra {
		info.Extra[key] = values
	}
	for i, r := range a.c.UserRules {
		if err := holdsTrue(ctx, a.userRules[i], map[string]any{"user": info}, r.Message); err != nil {
			return err
		}
	}
	return nil
}

// holdsTrue refuses with the message, or the text, of an expression that is not true.
func holdsTrue(ctx context.Context, p *expression.Program, vars map[string]any, message string) error {
	ok, err := p.Bool(ctx, vars)
	switch {
	case err != nil:
		return err
	case ok:
		return nil
	case message == "":
		message = "a rule is not kept: " + p.Text
	}
	return errors.New(message)
}

// one is a part of the user that is a single text.
func (a *Authenticator) one(ctx context.Context, what string, m Mapping, p *expression.Program, claims map[string]any, needed bool) (string, error) {
	var text string
	switch {
	case p != nil:
		value, err := p.Value(ctx, map[string]any{"claims": claims})
		if err != nil {
			return "", fmt.Errorf("%s: %w", what, err)
		}
		var ok bool
		if text, ok = value.Value().(string); !ok {
			return "", fmt.Errorf("%s: the expression yields %v, not a string", what, value.Type())
		}
	case m.Claim != "":
		value, has := claims[m.Claim]
		var ok bool
		if text, ok = value.(string); has && !ok {
			return "", fmt.Errorf("%s: the claim %q is not a string", what, m.Claim)
		}
	}
	if text == "" {
		if needed {
			return "", fmt.Errorf("%s: it is empty", what)
		}
		return "", nil
	}
	if m.Prefix != nil {
		text = *m.Prefix + text
	}
	return text, nil
}

// many is a part of the user that is a list: a text stands for a list of one, an empty one for none.
func (a *Authenticator) many(ctx context.Context, what string, m Mapping, p *expression.Program, claims map[string]any) ([]string, error) {
	var value any
	switch {
	case p != nil:
		v, err := p.Value(ctx, map[string]any{"claims": claims})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		value = v.Value()
	case m.Claim != "":
		value = claims[m.Claim]
	}
	var out []string
	add := func(v any) bool {
		if r, is := v.(ref.Val); is {
			v = r.Value()
		}
		text, ok := v.(string)
		if ok && text != "" {
			if m.Prefix != nil {
				text = *m.Prefix + text
			}
			out = append(out, text)
		}
		return ok
	}
	ok := true
	switch list := value.(type) {
	case nil:
	case []any:
		for _, v := range list {
			ok = ok && add(v)
		}
	case []ref.Val:
		for _, v := range list {
			ok = ok && add(v)
		}
	case []string:
		for _, v := range list {
			ok = ok && add(v)
		}
	default:
		if reflect.TypeOf(value).String() == "structpb.NullValue" {
			return nil, nil
		}
		ok = add(value)
	}
	if !ok {
		return nil, fmt.Errorf("%s: neither a string nor a list of strings", what)
	}
	return out, nil
}
