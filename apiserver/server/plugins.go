package server

import (
	"context"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/admission/plugins/defaultstorageclass"
	"hardway/apiserver/admission/plugins/defaulttolerationseconds"
	"hardway/apiserver/admission/plugins/limitranger"
	"hardway/apiserver/admission/plugins/namespacelifecycle"
	"hardway/apiserver/admission/plugins/noderestriction"
	"hardway/apiserver/admission/plugins/priority"
	"hardway/apiserver/admission/plugins/resourcequota"
	"hardway/apiserver/admission/plugins/serviceaccount"
	"hardway/apiserver/admission/plugins/storageinuse"
	"hardway/apiserver/authz"
	"hardway/apiserver/authz/rbac"
	"hardway/apiserver/registry"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// plugins is the admission chain.
func (s *server) plugins(set *registry.Set) admission.Chain {
	s.access.look.set.Store(set)
	return s.wanted(s.allPlugins(set))
}

// allPlugins are those that are there, in the order in which upstream's plugins of these names run.
func (s *server) allPlugins(set *registry.Set) admission.Chain {
	core := func(plural string) schema.GroupResource { return schema.GroupResource{Resource: plural} }
	of := func(group, plural string) schema.GroupResource {
		return schema.GroupResource{Group: group, Resource: plural}
	}
	chain := admission.Chain{
		namespacelifecycle.Plugin{Namespaces: set.For(namespaces)},
		limitranger.Plugin{Ranges: inNamespace[*corev1.LimitRange](set, core("limitranges"))},
		serviceaccount.Plugin{Accounts: set.For(accounts), NoTokens: s.access.tokens == nil},
		noderestriction.Plugin{Objects: s.access.look, MayAsk: s.access.mayAsk},
		priority.Plugin{Classes: everywhere[*schedulingv1.PriorityClass](set, of(schedulingv1.GroupName, "priorityclasses"))},
		defaulttolerationseconds.Plugin{},
		defaultstorageclass.Plugin{Classes: everywhere[*storagev1.StorageClass](set, of(storagev1.GroupName, "storageclasses"))},
		storageinuse.Plugin{},
	}
	if s.access.roles != nil {
		chain = append(chain, rbac.Escalation{Index: s.access.roles, Authorizer: s.access.authorizer})
	}
	return append(chain, &resourcequota.Plugin{Quotas: inNamespace[*corev1.ResourceQuota](set, core("resourcequotas")), Charge: charge(set.For(core("resourcequotas")))})
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

// charge changes the status of quotas.
func charge(quotas *registry.Registry) func(context.Context, string, string, func(*corev1.ResourceQuota) error) error {
	return func(ctx context.Context, namespace, name string, change func(*corev1.ResourceQuota) error) error {
		_, _, _, err := quotas.Update(ctx, namespace, name, "status", func(current resource.Object) (resource.Object, error) {
			q, _ := current.(*corev1.ResourceQuota)
			return q, change(q)
		}, &metav1.UpdateOptions{}, false)
		return err
	}
}

// mayAsk says whether a user may ask for tokens with an audience.
func (a *access) mayAsk(ctx context.Context, user *request.UserInfo, audience, namespace, account string) bool {
	decision, _, err := a.authorizer.Authorize(ctx, user, &request.Info{
		IsResource: true, Verb: "request-serviceaccounts-token-audience", Version: "v1", Resource: audience, Namespace: namespace, Name: account,
	})
	return err == nil && decision == authz.Allow
}
