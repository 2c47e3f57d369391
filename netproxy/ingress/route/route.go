// Package route says which Service a request to an Ingress goes to. It is pure: objects in, a table out, and the table answers by host and path.
//
// The rules are those of the Ingress API (https://kubernetes.io/docs/concepts/services-networking/ingress/): an exact host goes before a wildcard,
// which stands for one label, and a wildcard before rules without a host. Among the paths of the host that was found, the longest wins, and an exact
// one before a prefix; prefixes end at a slash. What nothing matches goes to a default backend. Where two Ingresses claim the same host and path, the
// older one has it.
package route

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"hardway/netproxy/state"
)

const (
	// Controller is what an IngressClass names in spec.controller to be served here.
	Controller = "hardway/ingress"
	// RedirectAnnotation on an Ingress, with the value "false": requests without TLS are served, although there is a certificate for their host.
	RedirectAnnotation = "hardway/ssl-redirect"
	// classAnnotation is how a class was named before spec.ingressClassName.
	classAnnotation = "kubernetes.io/ingress.class"
)

// Backend is where requests go.
type Backend struct {
	Service state.Name
	Port    string // of the Service: its name, or its number
}

// Route is what is done with a request.
type Route struct {
	Ingress  state.Name
	Backend  Backend
	Redirect bool // requests without TLS are sent to the same address with it
}

// Problem is something in an Ingress that cannot be served.
type Problem struct {
	Ingress state.Name
	Text    string
}

// Table answers for all Ingresses. It does not change once it is built.
type Table struct {
	// Served are the Ingresses that are ours, oldest first.
	Served   []*networkingv1.Ingress
	Problems []Problem

	hosts    names[*paths]
	secrets  names[state.Name]
	fallback *Route // for all that has no rule
	secret   *state.Name
}

// paths are the rules of one host.
type paths struct {
	exact, prefix map[string]*Route
	fallback      *Route // of an Ingress with a rule for the host
}

// Build makes the table of the Ingresses whose class is among ours. An Ingress without a class is nobody's.
func Build(ingresses []*networkingv1.Ingress, classes []*networkingv1.IngressClass) *Table {
	ours := map[string]bool{}
	for _, c := range classes {
		ours[c.Name] = c.Spec.Controller == Controller
	}
	t := &Table{hosts: names[*paths]{}, secrets: names[state.Name]{}}
	for _, in := range ingresses {
		if ours[classOf(in)] {
			t.Served = append(t.Served, in)
		}
	}
	slices.SortFunc(t.Served, func(a, b *networkingv1.Ingress) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, in := range t.Served {
		t.add(in)
	}
	return t
}

func classOf(in *networkingv1.Ingress) string {
	if in.Spec.IngressClassName != nil {
		return *in.Spec.IngressClassName
	}
	return in.Annotations[classAnnotation]
}

func (t *Table) add(in *networkingv1.Ingress) {
	own := state.Name{Namespace: in.Namespace, Name: in.Name}
	for _, entry := range in.Spec.TLS {
		t.certify(own, entry)
	}
	fallback := t.route(own, in, "", in.Spec.DefaultBackend)
	for _, rule := range in.Spec.Rules {
		host := strings.ToLower(rule.Host)
		p := t.hosts[host]
		if p == nil {
			p = &paths{exact: map[string]*Route{}, prefix: map[string]*Route{}}
			t.hosts[host] = p
		}
		p.fallback = cmp.Or(p.fallback, fallback)
		if rule.HTTP == nil { // all of the host goes to the default backend
			continue
		}
		for _, r := range rule.HTTP.Paths {
			t.path(own, in, host, p, r)
		}
	}
	if len(in.Spec.Rules) == 0 && fallback != nil {
		if t.fallback != nil {
			t.problem(own, "%s is the default backend already", t.fallback.Ingress)
		}
		t.fallback = cmp.Or(t.fallback, fallback)
	}
}

func (t *Table) path(own state.Name, in *networkingv1.Ingress, host string, p *paths, rule networkingv1.HTTPIngressPath) {
	route := t.route(own, in, host, &rule.Backend)
	if route == nil {
		return
	}
	where, key := p.prefix, strings.TrimRight(rule.Path, "/")
	if rule.PathType != nil && *rule.PathType == networkingv1.PathTypeExact {
		where, key = p.exact, rule.Path
	}
	if older, taken := where[key]; taken {
		t.problem(own, "path %q of host %q is that of Ingress %s", rule.Path, host, older.Ingress)
		return
	}
	where[key] = route
}

func (t *Table) route(own state.Name, in *networkingv1.Ingress, host string, b *networkingv1.IngressBackend) *Route {
	if b == nil {
		return nil
	}
	if b.Service == nil {
		t.problem(own, "a backend is a resource: only Services are served")
		return nil
	}
	port := b.Service.Port.Name
	if port == "" {
		port = strconv.Itoa(int(b.Service.Port.Number))
	}
	return &Route{Ingress: own, Backend: Backend{state.Name{Namespace: in.Namespace, Name: b.Service.Name}, port},
		Redirect: in.Annotations[RedirectAnnotation] != "false" && encrypted(in, host)}
}

// encrypted says whether an Ingress has a certificate for a host of its rules.
func encrypted(in *networkingv1.Ingress, host string) bool {
	for _, entry := range in.Spec.TLS {
		covered := names[bool]{}
		for _, h := range entry.Hosts {
			covered[strings.ToLower(h)] = true
		}
		if len(entry.Hosts) == 0 || covered.find(host) {
			return true
		}
	}
	return false
}

func (t *Table) certify(own state.Name, entry networkingv1.IngressTLS) {
	if entry.SecretName == "" {
		return // the hosts have the default certificate
	}
	secret := state.Name{Namespace: own.Namespace, Name: entry.SecretName}
	if len(entry.Hosts) == 0 && t.secret == nil {
		t.secret = &secret
	}
	for _, h := range entry.Hosts {
		h = strings.ToLower(h)
		if older, taken := t.secrets[h]; taken && older != secret {
			t.problem(own, "host %q has the certificate of Secret %s", h, older)
			continue
		}
		t.secrets[h] = secret
	}
}

func (t *Table) problem(own state.Name, format string, args ...any) {
	t.Problems = append(t.Problems, Problem{own, fmt.Sprintf(format, args...)})
}

// Find returns what is done with a request: nil, when nothing is said about it. The path is decoded and begins with a slash; ".." in it is followed
// before it is looked for, so that nobody comes past a rule.
func (t *Table) Find(host, requested string) *Route {
	p := t.hosts.find(strings.ToLower(strings.TrimSuffix(host, ".")))
	if p == nil {
		return t.fallback
	}
	clean := path.Clean("/" + requested)
	full := clean
	if strings.HasSuffix(requested, "/") && clean != "/" {
		full += "/"
	}
	if r, ok := p.exact[full]; ok {
		return r
	}
	for prefix := strings.TrimRight(clean, "/"); ; prefix = prefix[:strings.LastIndexByte(prefix, '/')] {
		if r, ok := p.prefix[prefix]; ok {
			return r
		}
		if prefix == "" {
			return cmp.Or(p.fallback, t.fallback)
		}
	}
}

// Secret names the Secret with the certificate of a host.
func (t *Table) Secret(host string) (state.Name, bool) {
	if s := t.secrets.find(strings.ToLower(strings.TrimSuffix(host, "."))); s != (state.Name{}) {
		return s, true
	}
	if t.secret != nil {
		return *t.secret, true
	}
	return state.Name{}, false
}

// Secrets names all Secrets with certificates.
func (t *Table) Secrets() map[state.Name]bool {
	out := map[state.Name]bool{}
	for _, s := range t.secrets {
		out[s] = true
	}
	if t.secret != nil {
		out[*t.secret] = true
	}
	return out
}

// names are values by host: a name, a wildcard ("*.example.com"), or "" for all.
type names[V comparable] map[string]V

func (n names[V]) find(host string) V {
	var none V
	if v, ok := n[host]; ok {
		return v
	}
	if label, rest, ok := strings.Cut(host, "."); ok && label != "" {
		if v, ok := n["*."+rest]; ok {
			return v
		}
	}
	if v, ok := n[""]; ok {
		return v
	}
	return none
}
