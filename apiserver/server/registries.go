package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/allocate"
	"hardway/apiserver/evict"
	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
	"hardway/shared/daemon"
)

var (
	pods       = schema.GroupResource{Resource: "pods"}
	services   = schema.GroupResource{Resource: "services"}
	namespaces = schema.GroupResource{Resource: "namespaces"}
	accounts   = schema.GroupResource{Resource: "serviceaccounts"}
	addresses  = schema.GroupResource{Group: "networking.k8s.io", Resource: "ipaddresses"}
)

// makeRegistries makes the registries of all kinds with their admission and their allocator.
func (s *server) makeRegistries(all []*resource.Kind) error {
	cidr, err := netip.ParsePrefix(s.cfg.ServiceRange)
	if err != nil {
		return &daemon.ConfigError{Err: fmt.Errorf("--service-cluster-ip-range: %w", err)}
	}
	ports, err := allocate.ParsePortRange(s.cfg.NodePorts)
	if err != nil {
		return &daemon.ConfigError{Err: fmt.Errorf("--service-node-port-range: %w", err)}
	}
	compaction := s.cfg.Etcd.Compaction
	if compaction == 0 {
		compaction = -1 // the registry's way to say never
	}
	var failed error
	s.set = registry.NewSet(registry.Options{
		Kinds: all, Store: s.kept.Store, Compaction: compaction, Log: s.log,
		StoreOf: s.kept.storeOf, EventTTL: s.cfg.Etcd.EventTTL,
		Admission: func(set *registry.Set) admission.Chain {
			var chain admission.Chain
			chain, failed = s.plugins(set)
			return chain
		},
		Transformer: s.transformer(),
		Hooks: func(set *registry.Set) map[schema.GroupResource]registry.Hooks {
			var err error
			s.allocator, err = allocate.New(allocate.Options{
				CIDRs: []netip.Prefix{cidr.Masked()}, Ports: ports,
				Store: s.kept.Store, Addresses: set.For(addresses), Services: set.For(services),
				Ranges: set.For(schema.GroupResource{Group: "networking.k8s.io", Resource: "servicecidrs"}), Log: s.log,
			})
			if err != nil {
				failed = errors.Join(failed, err)
				return nil
			}
			return map[schema.GroupResource]registry.Hooks{services: s.allocator.Hooks(), pods: podHooks(set)}
		},
	})
	if failed != nil {
		return &daemon.ConfigError{Err: failed}
	}
	return nil
}

// transformer is how the values of a kind are encrypted in etcd; nil: none is.
func (s *server) transformer() func(schema.GroupResource) store.Transformer {
	if s.encryption == nil {
		return nil
	}
	return s.encryption.For
}

// podHooks asks the disruption budgets before an eviction.
func podHooks(set *registry.Set) registry.Hooks {
	budgets := evict.Budgets{Registry: set.For(schema.GroupResource{Group: "policy", Resource: "poddisruptionbudgets"})}
	return registry.Hooks{Before: map[string]func(context.Context, resource.Object, runtime.Object, bool) (runtime.Object, error){
		"eviction": budgets.Before,
	}}
}

// repair watches over the allocator's claims once the caches are there.
func (s *server) repair(ctx context.Context) error {
	if s.set.WaitForSync(ctx) != nil {
		return nil //nolint:nilerr // told to stop before there was anything to look at
	}
	return s.allocator.Run(ctx)
}
