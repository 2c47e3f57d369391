// Package resources asks the API server which kinds it serves, for the controllers that act on every kind: the
// namespace controller and the garbage collector. It reads the aggregated form of discovery (group apidiscovery.k8s.io,
// version v2), two requests in all.
package resources

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// aggregated is the only form that is asked for.
const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// maxDocument bounds what is read of one discovery document; a server that sends more is not believed.
const maxDocument = 64 << 20

// Resource is one kind in the version that the server prefers.
type Resource struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
	Verbs      []string
}

// Can reports whether the resource has all the verbs.
func (r Resource) Can(verbs ...string) bool {
	for _, v := range verbs {
		if !slices.Contains(r.Verbs, v) {
			return false
		}
	}
	return true
}

// Set is what the server serves.
type Set struct {
	All []Resource // sorted by group and name
	// Missing are the group versions whose resources could not be learned: their server does not answer. What they hold
	// is unknown.
	Missing []schema.GroupVersion
}

// ByKind finds the resource of a kind in any version of its group.
func (s Set) ByKind(group, kind string) (Resource, bool) {
	i := slices.IndexFunc(s.All, func(r Resource) bool { return r.Group == group && r.Kind == kind })
	if i < 0 {
		return Resource{}, false
	}
	return s.All[i], true
}

// Finder asks for the Set.
type Finder struct {
	http *http.Client
	base *url.URL
}

// NewFinder makes a Finder for the API server of the configuration.
func NewFinder(cfg *rest.Config) (*Finder, error) {
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client for discovery: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("address for discovery: %w", err)
	}
	return &Finder{http: hc, base: base}, nil
}

// Find asks the server now.
func (f *Finder) Find(ctx context.Context) (Set, error) {
	core, err := f.get(ctx, "api")
	if err != nil {
		return Set{}, err
	}
	groups, err := f.get(ctx, "apis")
	if err != nil {
		return Set{}, err
	}
	return Read(append(core.Items, groups.Items...)), nil
}

func (f *Finder) get(ctx context.Context, path string) (*apidiscoveryv2.APIGroupDiscoveryList, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base.JoinPath(path).String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask /%s for resources: %w", path, err)
	}
	req.Header.Set("Accept", aggregated)
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask /%s for resources: %w", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask /%s for resources: %s: %.200s", path, resp.Status, body)
	}
	var list apidiscoveryv2.APIGroupDiscoveryList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("decode /%s: %w", path, err)
	}
	if list.Kind != "APIGroupDiscoveryList" {
		return nil, fmt.Errorf("ask /%s for resources: the server answered with %q and not with aggregated discovery", path, list.Kind)
	}
	return &list, nil
}

// Read turns discovery documents into a Set. Versions come in the server's order of preference, so the first one that
// has a resource counts. Kinds that the group extensions shares with the group they moved to are taken from the latter.
func Read(groups []apidiscoveryv2.APIGroupDiscovery) Set {
	var s Set
	elsewhere := map[string]bool{} // kinds outside extensions
	for _, g := range groups {
		seen := map[string]bool{}
		for _, v := range g.Versions {
			gv := schema.GroupVersion{Group: g.Name, Version: v.Version}
			if v.Freshness == apidiscoveryv2.DiscoveryFreshnessStale {
				s.Missing = append(s.Missing, gv)
			}
			for _, r := range v.Resources {
				if seen[r.Resource] || r.ResponseKind == nil {
					continue
				}
				seen[r.Resource] = true
				elsewhere[r.ResponseKind.Kind] = elsewhere[r.ResponseKind.Kind] || g.Name != "extensions"
				s.All = append(s.All, Resource{
					GroupVersionResource: gv.WithResource(r.Resource), Kind: r.ResponseKind.Kind,
					Namespaced: r.Scope == apidiscoveryv2.ScopeNamespace, Verbs: r.Verbs,
				})
			}
		}
	}
	s.All = slices.DeleteFunc(s.All, func(r Resource) bool { return r.Group == "extensions" && elsewhere[r.Kind] })
	slices.SortFunc(s.All, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource))
	})
	return s
}
