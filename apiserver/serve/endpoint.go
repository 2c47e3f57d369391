package serve

import (
	"fmt"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/apply"
	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
)

// endpoint is one kind in one served version.
type endpoint struct {
	kind    *resource.Kind
	reg     *registry.Registry
	version *resource.Version // nil: the stored version
	gvk     schema.GroupVersionKind
	list    string // the list's kind
	types   *apply.Types
	sealed  bool // no new objects: what declares the kind is being deleted

	mu       sync.Mutex
	managers map[string]*apply.Manager // guarded by mu; by subresource

	prefixOnce sync.Once
	prefix     []byte // of the JSON of every object
}

// endpoints makes an endpoint for every served version of every kind, by group, version and plural.
func endpoints(kinds []*resource.Kind, set *registry.Set, types *apply.Types) map[schema.GroupVersionResource]*endpoint {
	all := map[schema.GroupVersionResource]*endpoint{}
	for _, k := range kinds {
		reg := set.For(k.GroupResource())
		all[k.GVR()] = &endpoint{kind: k, reg: reg, gvk: k.GVK(), list: k.List, types: types, managers: map[string]*apply.Manager{}}
		for i := range k.Versions {
			v := &k.Versions[i]
			n := v.Names
			if n.Plural == "" {
				n.Plural = k.Plural
			}
			if n.List == "" {
				n.List = n.Kind + "List"
			}
			gvk := schema.GroupVersionKind{Group: n.Group, Version: n.Version, Kind: n.Kind}
			all[gvk.GroupVersion().WithResource(n.Plural)] = &endpoint{
				kind: k, reg: reg, version: v, gvk: gvk, list: n.List, types: types, managers: map[string]*apply.Manager{},
			}
		}
	}
	return all
}

// manager keeps the fields' account of writes through this endpoint and a subresource. Managers are made when first
// needed: their types cost some milliseconds.
func (e *endpoint) manager(sub string) (*apply.Manager, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.managers[sub]; m != nil {
		return m, nil
	}
	m, err := apply.NewManager(e.types, e.kind, e.gvk, sub)
	if err != nil {
		return nil, err
	}
	e.managers[sub] = m
	return m, nil
}

// empty makes an object of the endpoint's version to decode into.
func (e *endpoint) empty() runtime.Object {
	if e.version != nil {
		return e.version.New()
	}
	return e.kind.New()
}

// incoming turns a decoded object into the stored version, with defaults.
func (e *endpoint) incoming(obj runtime.Object) (resource.Object, error) {
	stored, ok := obj.(resource.Object)
	if e.version != nil {
		var err error
		if stored, err = e.version.ToStorage(obj); err != nil {
			return nil, fmt.Errorf("convert %s to the stored version: %w", e.gvk, err)
		}
	} else if !ok {
		return nil, fmt.Errorf("%T has no metadata", obj)
	}
	stored.GetObjectKind().SetGroupVersionKind(e.kind.GVK())
	e.kind.Default(stored)
	return stored, nil
}

// checkVersion applies the rules that hold for the endpoint's version alone. Old is nil on create.
func (e *endpoint) checkVersion(obj, old resource.Object) error {
	if e.version == nil || e.version.Validate == nil {
		return nil
	}
	if errs := e.version.Validate(obj, old); len(errs) > 0 {
		return apierrors.NewInvalid(e.gvk.GroupKind(), obj.GetName(), errs)
	}
	return nil
}

// outgoing turns a stored object into the endpoint's version, with apiVersion and kind. The result may be shared: read
// only.
func (e *endpoint) outgoing(obj resource.Object) (runtime.Object, error) {
	if e.version != nil {
		out, err := e.version.FromStored(obj)
		if err != nil {
			return nil, fmt.Errorf("convert %s to %s: %w", e.kind.GVK(), e.gvk, err)
		}
		out.GetObjectKind().SetGroupVersionKind(e.gvk)
		return out, nil
	}
	if obj.GetObjectKind().GroupVersionKind() != e.gvk {
		obj = obj.DeepCopyObject().(resource.Object)
		obj.GetObjectKind().SetGroupVersionKind(e.gvk)
	}
	return obj, nil
}

// plural is the endpoint's name in URLs.
func (e *endpoint) plural() string {
	if e.version != nil && e.version.Names.Plural != "" {
		return e.version.Names.Plural
	}
	return e.kind.Plural
}

// can says whether the kind allows a verb.
func (e *endpoint) can(verb string) bool {
	return slices.Contains(e.kind.Verbs, verb) && (verb != "create" || !e.sealed)
}
