package discovery

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/resource"
)

// Discovery knows the served kinds by group and version. It never changes.
type Discovery struct {
	address string
	groups  []group

	v2, v2beta1 [2]func() (*Document, error) // core group, all others
}

type group struct {
	name     string
	versions []groupVersion // preferred first
}

type groupVersion struct {
	name  string
	kinds []served
}

// served is a kind in one of its versions.
type served struct {
	kind  *resource.Kind
	names resource.Names
}

func (s served) gvk() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: s.names.Group, Version: s.names.Version, Kind: s.names.Kind}
}

// New reads the declarations. Address is where clients of the server's network reach it, host:port.
func New(kinds []*resource.Kind, address string) *Discovery {
	d := &Discovery{address: address}
	for _, k := range kinds {
		d.add(served{k, k.Names})
		for _, v := range k.Versions {
			d.add(served{k, named(v.Names, k.Names)})
		}
	}
	// A word without a group means the first that has it: the group that everything once began in comes last.
	slices.SortStableFunc(d.groups, func(a, b group) int { return cmp.Compare(boolInt(a.name == firstGroup), boolInt(b.name == firstGroup)) })
	for i, core := range []bool{true, false} {
		d.v2[i] = sync.OnceValues(func() (*Document, error) { return d.aggregate(core, "v2") })
		d.v2beta1[i] = sync.OnceValues(func() (*Document, error) { return d.aggregate(core, "v2beta1") })
	}
	return d
}

// firstGroup is where most kinds lived before they had groups of their own.
const firstGroup = "extensions"

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// named fills what a further version leaves out from the stored one's names.
func named(n, stored resource.Names) resource.Names {
	if n.Singular == "" {
		n.Singular = stored.Singular
	}
	if n.Short == nil {
		n.Short = stored.Short
	}
	if n.Categories == nil {
		n.Categories = stored.Categories
	}
	if n.Plural == "" {
		n.Plural = stored.Plural
	}
	return n
}

func (d *Discovery) add(s served) {
	gi := slices.IndexFunc(d.groups, func(g group) bool { return g.name == s.names.Group })
	if gi < 0 {
		gi = len(d.groups)
		d.groups = append(d.groups, group{name: s.names.Group})
	}
	g := &d.groups[gi]
	at := func() int {
		return slices.IndexFunc(g.versions, func(v groupVersion) bool { return v.name == s.names.Version })
	}
	if at() < 0 {
		g.versions = append(g.versions, groupVersion{name: s.names.Version})
		// v1 before v1beta1: the newest stable version is preferred.
		slices.SortStableFunc(g.versions, func(a, b groupVersion) int { return compareVersions(a.name, b.name) })
	}
	g.versions[at()].kinds = append(g.versions[at()].kinds, s)
}

// Versions answers /api.
func (d *Discovery) Versions() *metav1.APIVersions {
	return &metav1.APIVersions{
		TypeMeta:                   metav1.TypeMeta{Kind: "APIVersions"},
		Versions:                   []string{"v1"},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: d.address}},
	}
}

// Groups answers /apis.
func (d *Discovery) Groups() *metav1.APIGroupList {
	list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
	for _, g := range d.groups {
		if g.name != "" {
			list.Groups = append(list.Groups, g.describe())
		}
	}
	return list
}

// Group answers /apis/<group>; nil when there is no such group.
func (d *Discovery) Group(name string) *metav1.APIGroup {
	for _, g := range d.groups {
		if g.name == name && name != "" {
			described := g.describe()
			described.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
			return &described
		}
	}
	return nil
}

func (g group) describe() metav1.APIGroup {
	out := metav1.APIGroup{Name: g.name}
	for _, v := range g.versions {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: g.name + "/" + v.name, Version: v.name})
	}
	out.PreferredVersion = out.Versions[0]
	return out
}

// Resources answers /api/v1 and /apis/<group>/<version>; nil when there is no such version.
func (d *Discovery) Resources(gv schema.GroupVersion) *metav1.APIResourceList {
	v := d.version(gv)
	if v == nil {
		return nil
	}
	list := &metav1.APIResourceList{
		TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		GroupVersion: gv.String(),
		APIResources: []metav1.APIResource{},
	}
	for _, s := range v.kinds {
		list.APIResources = append(list.APIResources, s.describe()...)
	}
	slices.SortFunc(list.APIResources, func(a, b metav1.APIResource) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (d *Discovery) version(gv schema.GroupVersion) *groupVersion {
	for _, g := range d.groups {
		if g.name != gv.Group {
			continue
		}
		for i := range g.versions {
			if g.versions[i].name == gv.Version {
				return &g.versions[i]
			}
		}
	}
	return nil
}

// describe returns the resource and its subresources.
func (s served) describe() []metav1.APIResource {
	n := s.names
	out := []metav1.APIResource{{
		Name: n.Plural, SingularName: n.Singular, Namespaced: bool(s.kind.Scope), Kind: n.Kind,
		Verbs: sorted(s.kind.Verbs), ShortNames: n.Short, Categories: n.Categories,
	}}
	if s.kind.Stored() {
		out[0].StorageVersionHash = storageHash(s.kind.StoredGVK())
	}
	for _, sub := range s.subresources() {
		r := metav1.APIResource{Name: n.Plural + "/" + sub.name, Namespaced: bool(s.kind.Scope), Kind: sub.kind.Kind, Verbs: sub.verbs}
		if gv := sub.kind.GroupVersion(); gv != s.gvk().GroupVersion() {
			r.Group, r.Version = gv.Group, gv.Version
		}
		out = append(out, r)
	}
	return out
}

// subresource is what discovery says of one: status as well as the declared ones.
type subresource struct {
	name  string
	kind  schema.GroupVersionKind
	verbs []string
}

func (s served) subresources() []subresource {
	var out []subresource
	if s.kind.HasStatus {
		out = append(out, subresource{"status", s.gvk(), []string{"get", "patch", "update"}})
	}
	for _, sub := range s.kind.Subresources {
		kind := sub.Kind
		if kind.Empty() {
			kind = s.gvk()
		}
		out = append(out, subresource{sub.Name, kind, sorted(sub.Verbs)})
	}
	return out
}

func sorted(verbs []string) []string { return slices.Sorted(slices.Values(verbs)) }

// storageHash is the same for all who store a kind in the same version; its form is upstream's.
func storageHash(gvk schema.GroupVersionKind) string {
	sum := sha256.Sum256([]byte(gvk.Group + "/" + gvk.Version + "/" + gvk.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}
