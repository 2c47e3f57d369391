package discovery

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// compareVersions orders v2 before v1 before v1beta2 before v1beta1.
func compareVersions(a, b string) int { return version.CompareKubeAwareVersionStrings(b, a) }

// Document is an aggregated discovery document.
type Document struct {
	Body []byte // JSON
	ETag string // quoted, as in the header
}

// Aggregated returns the document for /api (core) or /apis in version v2 or v2beta1 of apidiscovery.k8s.io.
func (d *Discovery) Aggregated(core bool, version string) (*Document, error) {
	i := 1
	if core {
		i = 0
	}
	if version == "v2beta1" {
		return d.v2beta1[i]()
	}
	return d.v2[i]()
}

// aggregate builds the document. Both versions have the same fields.
func (d *Discovery) aggregate(core bool, version string) (*Document, error) {
	list := apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/" + version},
		Items:    []apidiscoveryv2.APIGroupDiscovery{},
	}
	for _, g := range d.groups {
		if (g.name == "") != core {
			continue
		}
		item := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.name}}
		for _, v := range g.versions {
			item.Versions = append(item.Versions, v.aggregate())
		}
		list.Items = append(list.Items, item)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return &Document{Body: body, ETag: `"` + strings.ToUpper(hex.EncodeToString(sum[:])) + `"`}, nil
}

func (v groupVersion) aggregate() apidiscoveryv2.APIVersionDiscovery {
	out := apidiscoveryv2.APIVersionDiscovery{Version: v.name, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
	for _, s := range v.kinds {
		r := apidiscoveryv2.APIResourceDiscovery{
			Resource: s.names.Plural, SingularResource: s.names.Singular,
			ResponseKind: s.answers(s.gvk()),
			Scope:        apidiscoveryv2.ScopeCluster,
			Verbs:        sorted(s.kind.Verbs), ShortNames: s.names.Short, Categories: s.names.Categories,
		}
		if s.kind.Scope {
			r.Scope = apidiscoveryv2.ScopeNamespace
		}
		for _, sub := range s.subresources() {
			r.Subresources = append(r.Subresources, apidiscoveryv2.APISubresourceDiscovery{
				Subresource: sub.name, Verbs: sub.verbs,
				ResponseKind: s.answers(sub.kind),
			})
		}
		slices.SortFunc(r.Subresources, func(a, b apidiscoveryv2.APISubresourceDiscovery) int {
			return strings.Compare(a.Subresource, b.Subresource)
		})
		out.Resources = append(out.Resources, r)
	}
	slices.SortFunc(out.Resources, func(a, b apidiscoveryv2.APIResourceDiscovery) int { return strings.Compare(a.Resource, b.Resource) })
	return out
}

// answers is the kind of an answer. Group and version are left out where they are those of the resource, as upstream does.
func (s served) answers(kind schema.GroupVersionKind) *metav1.GroupVersionKind {
	if kind.GroupVersion() == s.gvk().GroupVersion() {
		return &metav1.GroupVersionKind{Kind: kind.Kind}
	}
	return &metav1.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind}
}
