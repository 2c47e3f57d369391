package networking

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// ingressClass is how an Ingress named its class before there was a field.
const ingressClass = "kubernetes.io/ingress.class"

// Ingress says which requests from outside go to which Service.
var Ingress = resource.Define(scheme.Types, resource.Spec[networkingv1.Ingress]{
	Names:       resource.Names{Group: group, Version: version, Kind: "Ingress", Plural: "ingresses", Short: []string{"ing"}},
	Scope:       resource.Namespaced,
	StorageKey:  "ingress",
	SetStatus:   func(dst, src *networkingv1.Ingress) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged: func(i, old *networkingv1.Ingress) bool { return !equality.Semantic.DeepEqual(i.Spec, old.Spec) },
	Validate:    validateIngress,
	ValidateCreate: func(i *networkingv1.Ingress) field.ErrorList {
		errs := validateSecretNames(i)
		if class, ok := i.Annotations[ingressClass]; ok && i.Spec.IngressClassName != nil && class != *i.Spec.IngressClassName {
			errs = append(errs, field.Invalid(field.NewPath("annotations").Child(ingressClass), class, "must match `ingressClassName` when both are specified"))
		}
		return errs
	},
	ValidateUpdate: func(i, old *networkingv1.Ingress) field.ErrorList {
		if len(validateSecretNames(old)) > 0 {
			return nil
		}
		return validateSecretNames(i)
	},
	ValidateStatusUpdate: validateIngressStatus,
	Warnings: func(i, old *networkingv1.Ingress) []string {
		if _, ok := i.Annotations[ingressClass]; ok && old == nil && i.Spec.IngressClassName == nil {
			return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", ingressClass)}
		}
		return nil
	},
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[networkingv1.Ingress]{
		{Name: "Class", Describe: "The name of the IngressClass resource that should be used for additional configuration", Value: func(i *networkingv1.Ingress) any {
			if i.Spec.IngressClassName == nil {
				return show.None
			}
			return *i.Spec.IngressClassName
		}},
		{Name: "Hosts", Describe: "Hosts that incoming requests are matched against before the ingress rule", Value: showHosts},
		{Name: "Address", Describe: "Address is a list containing ingress points for the load-balancer", Value: func(i *networkingv1.Ingress) any {
			addresses := sets.New[string]()
			for _, p := range i.Status.LoadBalancer.Ingress {
				addresses.Insert(show.Or(p.IP, p.Hostname))
			}
			addresses.Delete("")
			return strings.Join(sets.List(addresses), ",")
		}},
		{Name: "Ports", Describe: "Ports of TLS configurations that open", Value: func(i *networkingv1.Ingress) any {
			if len(i.Spec.TLS) > 0 {
				return "80, 443"
			}
			return "80"
		}},
		show.Age[networkingv1.Ingress](),
	},
})

func showHosts(i *networkingv1.Ingress) any {
	const most = 3
	var hosts []string
	more := false
	for _, r := range i.Spec.Rules {
		if more = more || len(hosts) == most; !more && r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	switch {
	case len(hosts) == 0:
		return "*"
	case more:
		return fmt.Sprintf("%s + %d more...", strings.Join(hosts, ","), len(i.Spec.Rules)-most)
	}
	return strings.Join(hosts, ",")
}

func validateIngress(i *networkingv1.Ingress) field.ErrorList {
	path, s := field.NewPath("spec"), &i.Spec
	var errs field.ErrorList
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		errs = append(errs, field.Invalid(path, s.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if s.DefaultBackend != nil {
		errs = append(errs, validateBackend(s.DefaultBackend, path.Child("defaultBackend"))...)
	}
	for n, r := range s.Rules {
		at := path.Child("rules").Index(n)
		if r.Host != "" {
			errs = append(errs, validateHost(r.Host, at.Child("host"))...)
		}
		if r.HTTP == nil {
			continue
		}
		paths := at.Child("http", "paths")
		if len(r.HTTP.Paths) == 0 {
			errs = append(errs, field.Required(paths, ""))
		}
		for m := range r.HTTP.Paths {
			errs = append(errs, validatePath(&r.HTTP.Paths[m], paths.Index(m))...)
		}
	}
	for n, t := range s.TLS {
		for m, host := range t.Hosts {
			errs = append(errs, check.Each(path.Child("tls").Index(n).Child("hosts").Index(m), host, wildcardOrName(host))...)
		}
	}
	if s.IngressClassName != nil {
		errs = append(errs, check.Subdomain(*s.IngressClassName, path.Child("ingressClassName"))...)
	}
	return errs
}

func validateHost(host string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if netutils.ParseIPSloppy(host) != nil {
		errs = append(errs, field.Invalid(at, host, "must be a DNS name, not an IP address"))
	}
	return append(errs, check.Each(at, host, wildcardOrName(host))...)
}

func wildcardOrName(host string) []string {
	if strings.Contains(host, "*") {
		return validation.IsWildcardDNS1123Subdomain(host)
	}
	return validation.IsDNS1123Subdomain(host)
}

func validatePath(p *networkingv1.HTTPIngressPath, at *field.Path) field.ErrorList {
	if p.PathType == nil {
		return field.ErrorList{field.Required(at.Child("pathType"), "pathType must be specified")}
	}
	var errs field.ErrorList
	path := at.Child("path")
	exact := *p.PathType == networkingv1.PathTypeExact || *p.PathType == networkingv1.PathTypePrefix
	switch {
	case exact || *p.PathType == networkingv1.PathTypeImplementationSpecific:
		if (exact || p.Path != "") && !strings.HasPrefix(p.Path, "/") {
			errs = append(errs, field.Invalid(path, p.Path, "must be an absolute path"))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("pathType"), *p.PathType, []networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	if exact {
		for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(p.Path, bad) {
				errs = append(errs, field.Invalid(path, p.Path, fmt.Sprintf("must not contain '%s'", bad)))
			}
		}
		for _, bad := range []string{"/..", "/."} {
			if strings.HasSuffix(p.Path, bad) {
				errs = append(errs, field.Invalid(path, p.Path, fmt.Sprintf("cannot end with '%s'", bad)))
			}
		}
	}
	return append(errs, validateBackend(&p.Backend, at.Child("backend"))...)
}

func validateBackend(b *networkingv1.IngressBackend, at *field.Path) field.ErrorList {
	switch {
	case b.Resource != nil && b.Service != nil:
		return field.ErrorList{field.Invalid(at, "", "cannot set both resource and service backends")}
	case b.Resource != nil:
		return validateTarget(b.Resource.APIGroup, b.Resource.Kind, b.Resource.Name, at.Child("resource"))
	case b.Service == nil:
		return field.ErrorList{field.Invalid(at, "", "resource or service backend is required")}
	}
	var errs field.ErrorList
	if name := b.Service.Name; name == "" {
		errs = append(errs, field.Required(at.Child("service", "name"), ""))
	} else {
		errs = append(errs, check.Each(at.Child("service", "name"), name, validation.IsDNS1035Label(name))...)
	}
	switch port, in := b.Service.Port, at.Child("service", "port"); {
	case port.Name != "" && port.Number != 0:
		errs = append(errs, field.Invalid(at, "", "cannot set both port name & port number"))
	case port.Name != "":
		errs = append(errs, check.Each(in.Child("name"), port.Name, validation.IsValidPortName(port.Name))...)
	case port.Number != 0:
		errs = append(errs, check.Port(port.Number, in.Child("number"))...)
	default:
		errs = append(errs, field.Required(at, "port name or number is required"))
	}
	return errs
}

// validateTarget checks a reference to an object of any kind.
func validateTarget(group *string, kind, name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if group != nil {
		errs = append(errs, check.Subdomain(*group, at.Child("apiGroup"))...)
	}
	for _, part := range []struct{ name, value string }{{"kind", kind}, {"name", name}} {
		if part.value == "" {
			errs = append(errs, field.Required(at.Child(part.name), ""))
		} else {
			errs = append(errs, check.Each(at.Child(part.name), part.value, content.IsPathSegmentName(part.value))...)
		}
	}
	return errs
}

func validateSecretNames(i *networkingv1.Ingress) field.ErrorList {
	var errs field.ErrorList
	for n, t := range i.Spec.TLS {
		if t.SecretName != "" {
			errs = append(errs, check.Subdomain(t.SecretName, field.NewPath("spec", "tls").Index(n).Child("secretName"))...)
		}
	}
	return errs
}

func validateIngressStatus(i, old *networkingv1.Ingress) field.ErrorList {
	var had []string
	for _, p := range old.Status.LoadBalancer.Ingress {
		had = append(had, p.IP)
	}
	var errs field.ErrorList
	for n, p := range i.Status.LoadBalancer.Ingress {
		at := field.NewPath("status", "loadBalancer", "ingress").Index(n)
		if p.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), p.IP, true, had)...)
		}
		if p.Hostname != "" {
			errs = append(errs, check.Subdomain(p.Hostname, at.Child("hostname"))...)
			if netutils.ParseIPSloppy(p.Hostname) != nil {
				errs = append(errs, field.Invalid(at.Child("hostname"), p.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}

// IngressClass names a kind of ingress controller.
var IngressClass = resource.Define(scheme.Types, resource.Spec[networkingv1.IngressClass]{
	Names: resource.Names{Group: group, Version: version, Kind: "IngressClass", Plural: "ingressclasses"},
	Scope: resource.Cluster,
	Default: func(c *networkingv1.IngressClass) {
		if p := c.Spec.Parameters; p != nil && p.Scope == nil {
			scope := networkingv1.IngressClassParametersReferenceScopeCluster
			p.Scope = &scope
		}
	},
	SpecChanged: func(c, old *networkingv1.IngressClass) bool { return !equality.Semantic.DeepEqual(c.Spec, old.Spec) },
	Validate:    validateIngressClass,
	ValidateUpdate: func(c, old *networkingv1.IngressClass) field.ErrorList {
		return check.Immutable(c.Spec.Controller, old.Spec.Controller, field.NewPath("spec", "controller"))
	},
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[networkingv1.IngressClass]{
		{Name: "Name", Format: "name", Describe: metav1.ObjectMeta{}.SwaggerDoc()["name"], Value: func(c *networkingv1.IngressClass) any {
			if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
				return c.Name + " (default)"
			}
			return c.Name
		}},
		{Name: "Controller", Describe: "Controller that is responsible for handling this class", Value: func(c *networkingv1.IngressClass) any { return c.Spec.Controller }},
		{Name: "Parameters", Describe: "A reference to a resource with additional parameters", Value: func(c *networkingv1.IngressClass) any {
			p := c.Spec.Parameters
			switch {
			case p == nil:
				return show.None
			case p.APIGroup != nil:
				return p.Kind + "." + *p.APIGroup + "/" + p.Name
			}
			return p.Kind + "/" + p.Name
		}},
		show.Age[networkingv1.IngressClass](),
	},
})

func validateIngressClass(c *networkingv1.IngressClass) field.ErrorList {
	const longest = 250
	path := field.NewPath("spec")
	var errs field.ErrorList
	if len(c.Spec.Controller) > longest {
		errs = append(errs, field.TooLong(path.Child("controller"), "", longest))
	}
	errs = append(errs, validation.IsDomainPrefixedPath(path.Child("controller"), c.Spec.Controller)...)
	p, at := c.Spec.Parameters, path.Child("parameters")
	if p == nil {
		return errs
	}
	errs = append(errs, validateTarget(p.APIGroup, p.Kind, p.Name, at)...)
	if p.Scope == nil {
		return append(errs, field.Required(at.Child("scope"), ""))
	}
	scopes := []string{networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace}
	switch inside := *p.Scope == networkingv1.IngressClassParametersReferenceScopeNamespace; {
	case !slices.Contains(scopes, *p.Scope):
		errs = append(errs, field.NotSupported(at.Child("scope"), *p.Scope, scopes))
	case inside && p.Namespace == nil:
		errs = append(errs, field.Required(at.Child("namespace"), "`parameters.scope` is set to 'Namespace'"))
	case inside:
		errs = append(errs, check.DNSLabel(*p.Namespace, at.Child("namespace"))...)
	case p.Namespace != nil:
		errs = append(errs, field.Forbidden(at.Child("namespace"), "`parameters.scope` is set to 'Cluster'"))
	}
	return errs
}
