package serve

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/apply"
	"hardway/apiserver/discovery"
	"hardway/apiserver/openapi"
	"hardway/apiserver/registry"
)

// live is what changes while the server runs: the kinds that were declared meanwhile, and what is said about all kinds.
// It is replaced as a whole.
type live struct {
	custom    map[schema.GroupVersionResource]*endpoint
	discovery *discovery.Discovery
	openapi   *openapi.Server
}

// Custom is one version of a kind that was declared while the server runs.
type Custom struct {
	Registry *registry.Registry
	// Sealed: no new objects.
	Sealed bool
}

// Publish serves custom kinds, in the place of all that were published before.
func (s *Server) Publish(custom []Custom, d *discovery.Discovery, o *openapi.Server) {
	before := s.live.Load()
	next := &live{custom: make(map[schema.GroupVersionResource]*endpoint, len(custom)), discovery: d, openapi: o}
	for _, c := range custom {
		k := c.Registry.Kind()
		if e := before.custom[k.GVR()]; e != nil && e.reg == c.Registry && e.sealed == c.Sealed {
			next.custom[k.GVR()] = e // with all that it has learned
			continue
		}
		next.custom[k.GVR()] = &endpoint{kind: k, reg: c.Registry, gvk: k.GVK(), list: k.List, sealed: c.Sealed, managers: map[string]*apply.Manager{}}
	}
	s.live.Store(next)
}

// endpoint finds where a resource is served, nil when it is not.
func (s *Server) endpoint(gvr schema.GroupVersionResource) *endpoint {
	if e := s.endpoints[gvr]; e != nil {
		return e
	}
	return s.live.Load().custom[gvr]
}
