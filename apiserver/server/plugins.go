package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/admission/plugins/always"
	"hardway/apiserver/admission/plugins/alwayspullimages"
	"hardway/apiserver/admission/plugins/certificates"
	"hardway/apiserver/admission/plugins/defaultclass"
	"hardway/apiserver/admission/plugins/defaulttolerationseconds"
	"hardway/apiserver/admission/plugins/denyserviceexternalips"
	"hardway/apiserver/admission/plugins/eventratelimit"
	"hardway/apiserver/admission/plugins/extendedresourcetoleration"
	"hardway/apiserver/admission/plugins/imagepolicywebhook"
	"hardway/apiserver/admission/plugins/limitpodhardantiaffinitytopology"
	"hardway/apiserver/admission/plugins/limitranger"
	"hardway/apiserver/admission/plugins/namespaceexists"
	"hardway/apiserver/admission/plugins/namespacelifecycle"
	"hardway/apiserver/admission/plugins/noderestriction"
	"hardway/apiserver/admission/plugins/ownerreferencespermission"
	"hardway/apiserver/admission/plugins/persistentvolumeclaimresize"
	"hardway/apiserver/admission/plugins/podnodeselector"
	"hardway/apiserver/admission/plugins/podresizevalidator"
	"hardway/apiserver/admission/plugins/podsecurity"
	"hardway/apiserver/admission/plugins/podtolerationrestriction"
	"hardway/apiserver/admission/plugins/podtopologylabels"
	"hardway/apiserver/admission/plugins/priority"
	"hardway/apiserver/admission/plugins/resourcequota"
	"hardway/apiserver/admission/plugins/runtimeclass"
	"hardway/apiserver/admission/plugins/serviceaccount"
	"hardway/apiserver/admission/plugins/storageinuse"
	"hardway/apiserver/admission/plugins/taintnodesbycondition"
	"hardway/apiserver/authz"
	"hardway/apiserver/authz/rbac"
	"hardway/apiserver/config"
	"hardway/apiserver/kinds"
	"hardway/apiserver/registry"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// row is an admission plugin by upstream's name. Those that are optional run only where --enable-admission-plugins names
// them. Without make it is a plugin of upstream that is not here.
type row struct {
	name     string
	optional bool
	make     func(*wiring) (admission.Plugin, error)
}

// wiring is what plugins are made from.
type wiring struct {
	*access
	set  *registry.Set
	conf admission.Config
}

// pluginRows are the admission plugins in the order in which they run, which is upstream's.
var pluginRows = []row{
	{name: "AlwaysAdmit", optional: true, make: just(always.Admit{})},
	{name: "NamespaceAutoProvision", optional: true, make: func(w *wiring) (admission.Plugin, error) {
		return namespaceexists.AutoProvision{Namespaces: w.set.For(namespaces)}, nil
	}},
	{name: "NamespaceLifecycle", make: func(w *wiring) (admission.Plugin, error) {
		return namespacelifecycle.Plugin{Namespaces: w.set.For(namespaces)}, nil
	}},
	{name: "NamespaceExists", optional: true, make: func(w *wiring) (admission.Plugin, error) {
		return namespaceexists.Exists{Namespaces: w.set.For(namespaces)}, nil
	}},
	{name: "LimitPodHardAntiAffinityTopology", optional: true, make: just(limitpodhardantiaffinitytopology.Plugin{})},
	{name: "LimitRanger", make: func(w *wiring) (admission.Plugin, error) {
		return limitranger.Plugin{Ranges: inNamespace[*corev1.LimitRange](w.set, of("", "limitranges"))}, nil
	}},
	{name: "ServiceAccount", make: func(w *wiring) (admission.Plugin, error) {
		return serviceaccount.Plugin{Accounts: w.set.For(accounts), NoTokens: w.tokens == nil}, nil
	}},
	{name: "NodeRestriction", make: func(w *wiring) (admission.Plugin, error) {
		return noderestriction.Plugin{Objects: w.look, MayAsk: w.mayAsk}, nil
	}},
	{name: "TaintNodesByCondition", make: just(taintnodesbycondition.Plugin{})},
	{name: "AlwaysPullImages", optional: true, make: just(alwayspullimages.Plugin{})},
	{name: "ImagePolicyWebhook", optional: true, make: func(w *wiring) (admission.Plugin, error) { return imagepolicywebhook.New(w.conf) }},
	{name: "PodSecurity", make: func(w *wiring) (admission.Plugin, error) { return podsecurity.New(w.conf, securityObjects{w.set}) }},
	{name: "PodNodeSelector", optional: true, make: func(w *wiring) (admission.Plugin, error) {
		return podnodeselector.New(w.conf, securityObjects{w.set}.Namespace)
	}},
	{name: "Priority", make: func(w *wiring) (admission.Plugin, error) {
		return priority.Plugin{Classes: everywhere[*schedulingv1.PriorityClass](w.set, of(schedulingv1.GroupName, "priorityclasses"))}, nil
	}},
	{name: "DefaultTolerationSeconds", make: just(defaulttolerationseconds.Plugin{})},
	{name: "PodTolerationRestriction", optional: true, make: func(w *wiring) (admission.Plugin, error) {
		return podtolerationrestriction.New(w.conf, securityObjects{w.set}.Namespace)
	}},
	{name: "EventRateLimit", optional: true, make: func(w *wiring) (admission.Plugin, error) { return eventratelimit.New(w.conf) }},
	{name: "ExtendedResourceToleration", optional: true, make: just(extendedresourcetoleration.Plugin{})},
	{name: "DefaultStorageClass", make: func(w *wiring) (admission.Plugin, error) {
		return defaultclass.Storage{Classes: everywhere[*storagev1.StorageClass](w.set, storageClasses)}, nil
	}},
	{name: "StorageObjectInUseProtection", make: just(storageinuse.Plugin{})},
	{name: "OwnerReferencesPermissionEnforcement", optional: true, make: func(w *wiring) (admission.Plugin, error) {
		return ownerreferencespermission.Plugin{Authorizer: w.authorizer, Resource: resourceOf}, nil
	}},
	{name: "PersistentVolumeClaimResize", make: func(w *wiring) (admission.Plugin, error) {
		return persistentvolumeclaimresize.Plugin{Class: func(_ context.Context, name string) *storagev1.StorageClass {
			class, _ := w.look.Find(storageClasses, "", name).(*storagev1.StorageClass)
			return class
		}}, nil
	}},
	{name: "RuntimeClass", make: func(w *wiring) (admission.Plugin, error) {
		classes := w.set.For(of(nodev1.GroupName, "runtimeclasses"))
		return runtimeclass.Plugin{Class: func(ctx context.Context, name string) (*nodev1.RuntimeClass, error) {
			obj, err := classes.Find(ctx, "", name)
			class, _ := obj.(*nodev1.RuntimeClass)
			return class, err
		}}, nil
	}},
	{name: "CertificateApproval", make: func(w *wiring) (admission.Plugin, error) { return certificates.Approval{Authorizer: w.authorizer}, nil }},
	{name: "CertificateSigning", make: func(w *wiring) (admission.Plugin, error) { return certificates.Signing{Authorizer: w.authorizer}, nil }},
	{name: "ClusterTrustBundleAttest"}, // there are no ClusterTrustBundles to attest
	{name: "CertificateSubjectRestriction", make: just(certificates.Subject{})},
	{name: "DefaultIngressClass", make: func(w *wiring) (admission.Plugin, error) {
		return defaultclass.Ingress{Classes: everywhere[*networkingv1.IngressClass](w.set, of(networkingv1.GroupName, "ingressclasses"))}, nil
	}},
	{name: "DenyServiceExternalIPs", optional: true, make: just(denyserviceexternalips.Plugin{})},
	{name: "PodTopologyLabels", make: func(w *wiring) (admission.Plugin, error) { return podtopologylabels.Plugin{Node: w.look.Node}, nil }},
	{name: "PodResizeValidator", make: func(w *wiring) (admission.Plugin, error) { return podresizevalidator.Plugin{Node: w.look.Node}, nil }},
	{name: "MutatingAdmissionPolicy"},
	{name: "MutatingAdmissionWebhook"},
	{name: "ValidatingAdmissionPolicy"},
	{name: "ValidatingAdmissionWebhook"},
	{name: roleGuard, make: func(w *wiring) (admission.Plugin, error) {
		if w.roles == nil {
			return nil, nil //nolint:nilnil // without RBAC there is nothing to guard
		}
		return rbac.Escalation{Index: w.roles, Authorizer: w.authorizer}, nil
	}},
	{name: "ResourceQuota", make: func(w *wiring) (admission.Plugin, error) {
		return &resourcequota.Plugin{Quotas: inNamespace[*corev1.ResourceQuota](w.set, quotas), Charge: charge(w.set.For(quotas))}, nil
	}},
	{name: "AlwaysDeny", optional: true, make: just(always.Deny{})},
}

// roleGuard is no plugin of upstream's, which asks the same in its storage: it cannot be turned off.
const roleGuard = "RBACEscalation"

var (
	quotas         = of("", "resourcequotas")
	storageClasses = of(storagev1.GroupName, "storageclasses")
)

func of(group, plural string) schema.GroupResource {
	return schema.GroupResource{Group: group, Resource: plural}
}

// resourceOf finds what a kind is called in URLs.
func resourceOf(gvk schema.GroupVersionKind) (plural string, namespaced, ok bool) {
	for _, k := range kinds.All() {
		if k.GVK() == gvk {
			return k.Plural, k.Scope == resource.Namespaced, true
		}
	}
	return "", false, false
}

// just makes a plugin that needs nothing.
func just(p admission.Plugin) func(*wiring) (admission.Plugin, error) {
	return func(*wiring) (admission.Plugin, error) { return p, nil }
}

// checkPlugins says what is wrong with the names of plugins in the configuration.
func checkPlugins(a *config.Access, conf admission.Config) error {
	unknown := func(name string) bool {
		return name == roleGuard || !slices.ContainsFunc(pluginRows, func(r row) bool { return r.name == name })
	}
	var errs []error
	for _, name := range a.Enable {
		if unknown(name) {
			errs = append(errs, fmt.Errorf("--enable-admission-plugins: the plugin %q is unknown", name))
		}
		if slices.Contains(a.Disable, name) {
			errs = append(errs, fmt.Errorf("the admission plugin %q is both enabled and disabled", name))
		}
	}
	for _, name := range a.Disable {
		if unknown(name) {
			errs = append(errs, fmt.Errorf("--disable-admission-plugins: the plugin %q is unknown", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(conf)) {
		if unknown(name) {
			errs = append(errs, fmt.Errorf("--admission-control-config-file: the plugin %q is unknown", name))
		}
	}
	return errors.Join(errs...)
}

// plugins is the admission chain: the plugins of the table that are wanted.
func (s *server) plugins(set *registry.Set) (admission.Chain, error) {
	s.access.look.set.Store(set)
	w := &wiring{access: s.access, set: set, conf: s.access.admission}
	var chain admission.Chain
	for _, r := range pluginRows {
		enabled := slices.Contains(s.cfg.Access.Enable, r.name)
		switch {
		case slices.Contains(s.cfg.Access.Disable, r.name), r.optional && !enabled:
			continue
		case r.make == nil && enabled:
			s.log.Warn("this admission plugin is not there: --enable-admission-plugins names it in vain", zap.String("plugin", r.name))
			continue
		case r.make == nil:
			continue
		}
		p, err := r.make(w)
		if err != nil {
			return nil, err
		}
		if p != nil {
			chain = append(chain, p)
		}
	}
	return chain, nil
}

// securityObjects is what PodSecurity looks at.
type securityObjects struct{ set *registry.Set }

// Namespace finds a namespace.
func (o securityObjects) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	obj, err := o.set.For(namespaces).Find(ctx, "", name)
	ns, _ := obj.(*corev1.Namespace)
	return ns, err
}

// Pods lists the pods of a namespace.
func (o securityObjects) Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	return inNamespace[*corev1.Pod](o.set, pods)(ctx, namespace)
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
