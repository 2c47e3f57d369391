package server

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/admission/plugins/defaultstorageclass"
	"hardway/apiserver/admission/plugins/defaulttolerationseconds"
	"hardway/apiserver/admission/plugins/limitranger"
	"hardway/apiserver/admission/plugins/namespacelifecycle"
	"hardway/apiserver/admission/plugins/priority"
	"hardway/apiserver/admission/plugins/serviceaccount"
	"hardway/apiserver/admission/plugins/storageinuse"
	"hardway/apiserver/allocate"
	"hardway/apiserver/authz/rbac"
	"hardway/apiserver/evict"
	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
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
		Admission: s.plugins,
		Hooks: func(set *registry.Set) map[schema.GroupResource]registry.Hooks {
			s.allocator, failed = allocate.New(allocate.Options{
				CIDRs: []netip.Prefix{cidr.Masked()}, Ports: ports,
				Store: s.kept.Store, Addresses: set.For(addresses), Services: set.For(services), Log: s.log,
			})
			if failed != nil {
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

// plugins is the admission chain, in the order in which upstream's plugins of these names run.
func (s *server) plugins(set *registry.Set) admission.Chain {
	s.access.look.set.Store(set)
	chain := admission.Chain{
		namespacelifecycle.Plugin{Namespaces: set.For(namespaces)},
		limitranger.Plugin{Ranges: inNamespace[*corev1.LimitRange](set, schema.GroupResource{Resource: "limitranges"})},
		serviceaccount.Plugin{Accounts: set.For(accounts), NoTokens: s.access.tokens == nil},
		priority.Plugin{Classes: everywhere[*schedulingv1.PriorityClass](set, schema.GroupResource{Group: schedulingv1.GroupName, Resource: "priorityclasses"})},
		defaulttolerationseconds.Plugin{},
		defaultstorageclass.Plugin{Classes: everywhere[*storagev1.StorageClass](set, schema.GroupResource{Group: storagev1.GroupName, Resource: "storageclasses"})},
		storageinuse.Plugin{},
	}
	chain = s.wanted(chain)
	if s.access.roles != nil {
		chain = append(chain, rbac.Escalation{Index: s.access.roles, Authorizer: s.access.authorizer})
	}
	return chain
}

// wanted leaves out the plugins that the configuration disables, and warns of those that it enables in vain.
func (s *server) wanted(chain admission.Chain) admission.Chain {
	for _, name := range s.cfg.Access.Enable {
		if !slices.ContainsFunc(chain, func(p admission.Plugin) bool { return p.Name() == name }) {
			s.log.Warn("this admission plugin is not there: --enable-admission-plugins names it in vain", zap.String("plugin", name))
		}
	}
	return slices.DeleteFunc(chain, func(p admission.Plugin) bool { return slices.Contains(s.cfg.Access.Disable, p.Name()) })
}

// inNamespace lists the objects of a kind in a namespace, as they are now.
func inNamespace[T resource.Object](set *registry.Set, gr schema.GroupResource) func(context.Context, string) ([]T, error) {
	return func(ctx context.Context, namespace string) ([]T, error) {
		list, err := set.For(gr).List(ctx, registry.Query{Namespace: namespace})
		if err != nil {
			return nil, err
		}
		out := make([]T, 0, len(list.Items))
		for _, it := range list.Items {
			if obj, ok := it.Object.(T); ok {
				out = append(out, obj)
			}
		}
		return out, nil
	}
}

// everywhere lists the objects of a kind outside namespaces, as they are now.
func everywhere[T resource.Object](set *registry.Set, gr schema.GroupResource) func(context.Context) ([]T, error) {
	all := inNamespace[T](set, gr)
	return func(ctx context.Context) ([]T, error) { return all(ctx, "") }
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
