// Package auth says who asks the node agent's port and whether they may. Who: the client certificate, else the bearer
// token, which the apiserver is asked about (TokenReview). Whether: members of system:masters always; everybody else by
// what the apiserver says (SubjectAccessReview) about the node's subresource that the path belongs to. Answers are kept
// for a while, so the apiserver is not asked at every scrape, and at most maxKept of them.
//
// It fails closed: an apiserver that does not answer lets nobody in whom it has not let in before.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
)

// User is who asks.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// Reviewer asks the apiserver.
type Reviewer interface {
	Token(ctx context.Context, token string) (authenticationv1.TokenReviewStatus, error)
	Access(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error)
}

// Options say how it is decided.
type Options struct {
	Node                        string
	Reviewer                    Reviewer // nil: certificates only
	Tokens                      bool     // bearer tokens are looked at
	Any                         bool     // AlwaysAllow: whoever is known may do everything
	Callers                     []string // users who may do everything beside system:masters
	TokenTTL, AllowTTL, DenyTTL time.Duration
}

// maxKept bounds each of the two caches; at the bound all are forgotten and asked for again.
const maxKept = 4096

// masters may do everything: the apiserver would say so too.
const masters = "system:masters"

// Gate decides about requests.
type Gate struct {
	o      Options
	tokens cache[User]
	access cache[string] // "" is allowed, else why not
}

// New returns a gate.
func New(o Options) *Gate {
	return &Gate{o: o, tokens: cache[User]{kept: map[string]kept[User]{}}, access: cache[string]{kept: map[string]kept[string]{}}}
}

// Wrap lets only those requests through to next that may pass. Paths of open need nobody's leave.
func (g *Gate) Wrap(next http.Handler, open ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(open, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		user, err := g.who(r)
		if err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		verb, subresources := Attributes(r.Method, r.URL.Path)
		if why := g.may(r.Context(), user, verb, subresources); why != "" {
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v): %s",
				user.Name, verb, subresources, why), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Attributes says what a request is called in RBAC: the verb, and the subresources of nodes of which one must be allowed.
// Running something in a container is "create" however it is asked for: a WebSocket begins with GET.
func Attributes(method, path string) (verb string, subresources []string) {
	verb = map[string]string{
		http.MethodPost: "create", http.MethodGet: "get", http.MethodHead: "get", http.MethodPut: "update",
		http.MethodPatch: "patch", http.MethodDelete: "delete",
	}[method]
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "exec", "attach", "portForward", "run", "cri":
		return "create", []string{"proxy"}
	case "stats", "metrics":
		return verb, []string{first}
	case "logs":
		return verb, []string{"log"}
	case "checkpoint":
		return verb, []string{"checkpoint"}
	case "pods", "runningpods":
		return verb, []string{"pods", "proxy"}
	case "healthz", "livez", "readyz":
		return verb, []string{"healthz", "proxy"}
	case "configz":
		return verb, []string{"configz", "proxy"}
	}
	return verb, []string{"proxy"}
}

// who is the user of a request.
func (g *Gate) who(r *http.Request) (User, error) {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return ofCertificate(r.TLS.VerifiedChains[0][0]), nil
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	token = strings.TrimSpace(token)
	if !g.o.Tokens || g.o.Reviewer == nil || !strings.EqualFold(scheme, "bearer") || token == "" {
		return User{}, fmt.Errorf("no credentials")
	}
	sum := sha256.Sum256([]byte(token))
	return g.tokens.get(string(sum[:]), func() (User, time.Duration, error) {
		st, err := g.o.Reviewer.Token(r.Context(), token)
		switch {
		case err != nil:
			return User{}, 0, err
		case !st.Authenticated:
			return User{}, 0, fmt.Errorf("token refused: %s", st.Error)
		}
		u := User{Name: st.User.Username, UID: st.User.UID, Groups: st.User.Groups, Extra: map[string][]string{}}
		for k, v := range st.User.Extra {
			u.Extra[k] = v
		}
		return u, g.o.TokenTTL, nil
	})
}

func ofCertificate(c *x509.Certificate) User {
	return User{Name: c.Subject.CommonName, Groups: append(slices.Clone(c.Subject.Organization), "system:authenticated")}
}

// may returns why the user may not, "" if they may. One allowed subresource is enough.
func (g *Gate) may(ctx context.Context, u User, verb string, subresources []string) string {
	if g.o.Any || slices.Contains(u.Groups, masters) || slices.Contains(g.o.Callers, u.Name) {
		return ""
	}
	if g.o.Reviewer == nil {
		return "not allowed"
	}
	why := ""
	for _, s := range subresources {
		if why = g.allowed(ctx, u, verb, s); why == "" {
			return ""
		}
	}
	return why
}

func (g *Gate) allowed(ctx context.Context, u User, verb, subresource string) string {
	key := strings.Join(append([]string{u.Name, u.UID, verb, subresource, fmt.Sprint(u.Extra)}, u.Groups...), "\x00")
	why, err := g.access.get(key, func() (string, time.Duration, error) {
		spec := authorizationv1.SubjectAccessReviewSpec{
			User: u.Name, UID: u.UID, Groups: u.Groups, Extra: map[string]authorizationv1.ExtraValue{},
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: g.o.Node,
			},
		}
		for k, v := range u.Extra {
			spec.Extra[k] = v
		}
		st, err := g.o.Reviewer.Access(ctx, spec)
		switch {
		case err != nil:
			return "", 0, err
		case st.Allowed && !st.Denied:
			return "", g.o.AllowTTL, nil
		case st.Reason != "":
			return st.Reason, g.o.DenyTTL, nil
		}
		return "not allowed", g.o.DenyTTL, nil
	})
	if err != nil {
		return "the apiserver cannot be asked: " + err.Error()
	}
	return why
}

// cache keeps answers until they are old.
type cache[T any] struct {
	mu   sync.Mutex // guards kept
	kept map[string]kept[T]
}

type kept[T any] struct {
	value T
	until time.Time
}

// get returns a kept answer or asks. Errors are not kept.
func (c *cache[T]) get(key string, ask func() (T, time.Duration, error)) (T, error) {
	c.mu.Lock()
	have, ok := c.kept[key]
	c.mu.Unlock()
	if ok && time.Now().Before(have.until) {
		return have.value, nil
	}
	v, ttl, err := ask()
	if err != nil || ttl <= 0 {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) >= maxKept {
		clear(c.kept)
	}
	c.kept[key] = kept[T]{v, time.Now().Add(ttl)}
	return v, nil
}
