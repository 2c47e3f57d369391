package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/authn"
	"hardway/apiserver/authn/serviceaccount"
	"hardway/apiserver/authz"
	"hardway/apiserver/authz/node"
	"hardway/apiserver/authz/rbac"
	"hardway/apiserver/authz/rbac/policy"
	"hardway/apiserver/config"
	"hardway/apiserver/judge"
	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
	"hardway/shared/mtls"
)

// access is who is let in and who may do what. The objects that it looks at come from the registries, which are made
// later: look is empty until then, and nobody is let in.
type access struct {
	cfg           *config.Access
	look          *lookup
	authenticator *authn.Authenticator
	authorizer    authz.Authorizer
	tokens        *serviceaccount.Tokens // nil: no keys
	roles         *rbac.Index            // nil: RBAC is off
	nodes         *node.Authorizer       // nil: Node is off
	policy        *policy.Policy
	admission     admission.Config
	reloads       []*reload
	waiting       atomic.Int32 // followed kinds whose objects are not all known yet, and the policy
}

// newAccess reads the files that the configuration names.
func newAccess(cfg *config.Config) (*access, error) {
	a := &access{cfg: &cfg.Access, look: &lookup{}, policy: policy.Default()}
	if err := a.makeAuthenticator(cfg); err != nil {
		return nil, err
	}
	if err := a.authorizers(); err != nil {
		return nil, err
	}
	if path := cfg.Access.AdmissionConfig; path != "" {
		var err error
		if a.admission, err = admission.OpenConfig(path); err != nil {
			return nil, err
		}
	}
	return a, checkPlugins(&cfg.Access, a.admission)
}

func (a *access) makeAuthenticator(cfg *config.Config) error {
	c := &cfg.Access
	clients, err := mtls.OpenPool(cfg.ClientCA)
	if err != nil {
		return fmt.Errorf("--client-ca-file: %w", err)
	}
	o := authn.Options{Roots: clients.Roots, Audiences: c.ServiceAccount.Audiences}
	if len(o.Audiences) == 0 {
		o.Audiences = c.ServiceAccount.Issuers
	}
	switch {
	case c.Anonymous == nil:
	case *c.Anonymous:
		o.Anonymous = authn.AnonymousAlways
	default:
		o.Anonymous = authn.AnonymousNever
	}
	if c.Proxy.CA != "" {
		pool, err := mtls.OpenPool(c.Proxy.CA)
		if err != nil {
			return fmt.Errorf("--requestheader-client-ca-file: %w", err)
		}
		o.Proxy = &authn.Proxy{
			Roots: pool.Roots, Names: c.Proxy.Names, UserHeaders: c.Proxy.UserHeaders, GroupHeaders: c.Proxy.GroupHeaders,
			UIDHeaders: c.Proxy.UIDHeaders, ExtraPrefixes: c.Proxy.ExtraPrefix,
		}
	}
	if c.PasswordFile != "" {
		if o.Basic, err = authn.OpenPasswordFile(c.PasswordFile); err != nil {
			return err
		}
	}
	if c.TokenFile != "" {
		file, err := authn.OpenTokenFile(c.TokenFile)
		if err != nil {
			return err
		}
		o.Tokens = append(o.Tokens, file)
	}
	if s := c.ServiceAccount; len(s.KeyFiles) > 0 || s.SigningFile != "" {
		if a.tokens, err = serviceaccount.New(serviceaccount.Options{
			KeyFiles: s.KeyFiles, SigningFile: s.SigningFile, Issuers: s.Issuers, Audiences: s.Audiences, MaxLife: s.MaxLife, Extend: s.Extend,
			Objects: a.look,
		}); err != nil {
			return err
		}
		o.Tokens = append(o.Tokens, a.tokens)
	}
	if c.Bootstrap {
		o.Tokens = append(o.Tokens, &authn.Bootstrap{Secret: func(name string) *corev1.Secret {
			return a.look.Secret(authn.BootstrapNamespace, name)
		}})
	}
	if err := a.issuers(&o); err != nil {
		return err
	}
	if w := c.Outside.TokenWebhook; w.Kubeconfig != "" {
		asked, err := authn.OpenWebhook(authn.WebhookOptions{Kubeconfig: w.Kubeconfig, Version: w.Version, Remember: w.Remember, Audiences: o.Audiences})
		if err != nil {
			return err
		}
		o.Tokens = append(o.Tokens, asked)
	}
	a.authenticator = authn.New(o)
	return nil
}

// trust is whose certificates this server trusts, as upstream publishes it.
func (s *server) trust() (map[string]string, error) {
	ca, err := os.ReadFile(s.cfg.ClientCA)
	if err != nil {
		return nil, err
	}
	out := map[string]string{"client-ca-file": string(ca)}
	p := s.cfg.Access.Proxy
	if p.CA == "" {
		return out, nil
	}
	if ca, err = os.ReadFile(p.CA); err != nil {
		return nil, err
	}
	out["requestheader-client-ca-file"] = string(ca)
	for key, list := range map[string][]string{
		"allowed-names": p.Names, "username-headers": p.UserHeaders, "group-headers": p.GroupHeaders,
		"uid-headers": p.UIDHeaders, "extra-headers-prefix": p.ExtraPrefix,
	} {
		if list == nil {
			list = []string{}
		}
		text, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		out["requestheader-"+key] = string(text)
	}
	return out, nil
}

// judge answers the kinds that are not stored. Etcd says what is wrong with the store.
func (a *access) judge(etcd func(context.Context) error) *judge.Judge {
	j := &judge.Judge{Authenticator: a.authenticator, Authorizer: a.authorizer, Tokens: a.tokens, Etcd: etcd}
	if a.roles != nil {
		j.Known = a.roles.Rules
	}
	return j
}

// ready is a readiness check: all roles, bindings and pods are known, and those of the policy are there.
func (a *access) ready(context.Context) error {
	if n := a.waiting.Load(); n > 0 {
		return fmt.Errorf("%d lists of what authorization looks at are not complete yet", n)
	}
	return nil
}

// follow keeps the authorizers' indexes, and brings the policy into the API, until ctx ends.
func (s *server) follow(ctx context.Context) error {
	a := s.access
	g, ctx := errgroup.WithContext(ctx)
	along := func(gr schema.GroupResource, changed func(old, now resource.Object)) {
		a.waiting.Add(1)
		g.Go(func() error { return s.set.For(gr).Follow(ctx, changed, func() { a.waiting.Add(-1) }) })
	}
	a.waiting.Add(1) // the start itself
	if s.set.WaitForSync(ctx) != nil {
		return nil //nolint:nilerr // told to stop before there was anything to look at
	}
	if a.roles != nil {
		for _, plural := range []string{"roles", "clusterroles", "rolebindings", "clusterrolebindings"} {
			along(schema.GroupResource{Group: rbacv1.GroupName, Resource: plural}, a.roles.Changed)
		}
		a.waiting.Add(1)
		g.Go(func() error {
			s.reconcilePolicy(ctx)
			return nil
		})
	}
	if a.nodes != nil {
		along(schema.GroupResource{Resource: "pods"}, a.nodes.Changed)
	}
	a.waiting.Add(-1)
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("follow what authorization looks at: %w", err)
	}
	return nil
}

// reconcilePolicy brings the policy into the API, and tries again while that fails.
func (s *server) reconcilePolicy(ctx context.Context) {
	for {
		err := s.access.policy.Reconcile(ctx, func(gr schema.GroupResource) policy.Registry { return s.set.For(gr) })
		if err == nil {
			s.access.waiting.Add(-1)
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("the roles that every cluster has are not complete, trying again", zap.Error(err))
		if !pause(ctx, retryPolicy) {
			return
		}
	}
}

// openID publishes the keys of service account tokens for others who check them; nil without keys.
func (a *access) openID(address string) http.Handler {
	if a.tokens == nil {
		return nil
	}
	uri := a.cfg.ServiceAccount.JWKSURI
	if uri == "" {
		uri = "https://" + address + "/openid/v1/jwks"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var doc any = map[string]any{
			"issuer": a.tokens.Issuer(), "jwks_uri": uri, "response_types_supported": []string{"id_token"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": a.tokens.Algorithms(),
		}
		mediaType := "application/json"
		if r.URL.Path == "/openid/v1/jwks" {
			doc, mediaType = a.tokens.JWKS(), "application/jwk-set+json"
		}
		text, err := json.Marshal(doc)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(text) // a client that has gone needs no answer
	})
}

// open is the guard of a handler that the filters guard already.
func open(next http.Handler) http.Handler { return next }

// lookup finds objects for the checks of authn and authz. It is empty until the registries are made.
type lookup struct{ set atomic.Pointer[registry.Set] }

// Find returns an object, nil when there is none or it cannot be read.
func (l *lookup) Find(gr schema.GroupResource, namespace, name string) resource.Object {
	set := l.set.Load()
	if set == nil || set.For(gr) == nil || name == "" {
		return nil
	}
	obj, err := set.For(gr).Find(context.Background(), namespace, name)
	if err != nil {
		return nil
	}
	return obj
}

func typed[T resource.Object](l *lookup, plural, namespace, name string) T {
	obj, _ := l.Find(schema.GroupResource{Resource: plural}, namespace, name).(T)
	return obj
}

// ServiceAccount, Pod, Node and Secret look at one kind each.
func (l *lookup) ServiceAccount(namespace, name string) *corev1.ServiceAccount {
	return typed[*corev1.ServiceAccount](l, "serviceaccounts", namespace, name)
}

// Pod finds a pod.
func (l *lookup) Pod(namespace, name string) *corev1.Pod {
	return typed[*corev1.Pod](l, "pods", namespace, name)
}

// Node finds a node.
func (l *lookup) Node(name string) *corev1.Node { return typed[*corev1.Node](l, "nodes", "", name) }

// Secret finds a secret.
func (l *lookup) Secret(namespace, name string) *corev1.Secret {
	return typed[*corev1.Secret](l, "secrets", namespace, name)
}

// PodsOf lists the pods of a namespace that are on a node.
func (l *lookup) PodsOf(node, namespace string) []*corev1.Pod {
	set := l.set.Load()
	if set == nil {
		return nil
	}
	list, err := set.For(schema.GroupResource{Resource: "pods"}).List(context.Background(), registry.Query{Namespace: namespace})
	if err != nil {
		return nil
	}
	var out []*corev1.Pod
	for _, it := range list.Items {
		if p, ok := it.Object.(*corev1.Pod); ok && p.Spec.NodeName == node {
			out = append(out, p)
		}
	}
	return out
}

// retryPolicy is the time between attempts to bring the policy in.
const retryPolicy = 500 * time.Millisecond

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
