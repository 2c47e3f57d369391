// Package networking declares the kinds of the group networking.k8s.io.
package networking

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

const (
	group, version = "networking.k8s.io", "v1"
	immutable      = "field is immutable"
)

// IPAddress says which Service has an address. It is named after the address; the allocator makes and removes it.
var IPAddress = resource.Define(scheme.Types, resource.Spec[networkingv1.IPAddress]{
	Names: resource.Names{
		Group: "networking.k8s.io", Version: "v1", Kind: "IPAddress", Plural: "ipaddresses", Short: []string{"ip"},
	},
	Scope:                    resource.Cluster,
	Validate:                 validateIPAddress,
	ValidateUpdate:           validateIPAddressUpdate,
	ValidateName:             validateIPAddressName,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[networkingv1.IPAddress]{
		{Name: "ParentRef", Describe: networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"], Value: showParent},
		show.Age[networkingv1.IPAddress](),
	},
})

func validateIPAddressName(name string) []string {
	var msgs []string
	for _, err := range validation.IsValidIP(&field.Path{}, name) {
		msgs = append(msgs, err.Detail)
	}
	return msgs
}

func validateIPAddress(a *networkingv1.IPAddress) field.ErrorList {
	path, ref := field.NewPath("spec", "parentRef"), a.Spec.ParentRef
	if ref == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if ref.Group != "" {
		errs = append(errs, check.Subdomain(ref.Group, path.Child("group"))...)
	}
	for _, part := range []struct {
		name, value string
		required    bool
	}{{"resource", ref.Resource, true}, {"name", ref.Name, true}, {"namespace", ref.Namespace, false}} {
		if part.value == "" && part.required {
			errs = append(errs, field.Required(path.Child(part.name), ""))
		} else if part.value != "" {
			errs = append(errs, check.Each(path.Child(part.name), part.value, check.PathSegment(part.value))...)
		}
	}
	return errs
}

func validateIPAddressUpdate(a, old *networkingv1.IPAddress) field.ErrorList {
	return check.Immutable(a.Spec.ParentRef, old.Spec.ParentRef, field.NewPath("spec", "parentRef"))
}

func showParent(a *networkingv1.IPAddress) any {
	ref := a.Spec.ParentRef
	if ref == nil {
		return show.None
	}
	gr := schema.GroupResource{Group: ref.Group, Resource: ref.Resource}
	parts := []string{strings.ToLower(gr.String())}
	if ref.Namespace != "" {
		parts = append(parts, ref.Namespace)
	}
	return strings.Join(append(parts, ref.Name), "/")
}

// ServiceCIDR is a range from which Services get their addresses.
var ServiceCIDR = resource.Define(scheme.Types, resource.Spec[networkingv1.ServiceCIDR]{
	Names:                    resource.Names{Group: "networking.k8s.io", Version: "v1", Kind: "ServiceCIDR", Plural: "servicecidrs"},
	Scope:                    resource.Cluster,
	SetStatus:                func(dst, src *networkingv1.ServiceCIDR) { src.Status.DeepCopyInto(&dst.Status) },
	Validate:                 validateServiceCIDR,
	ValidateUpdate:           validateServiceCIDRUpdate,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[networkingv1.ServiceCIDR]{
		{Name: "CIDRs", Describe: networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"], Value: func(c *networkingv1.ServiceCIDR) any {
			return strings.Join(c.Spec.CIDRs, ",")
		}},
		show.Age[networkingv1.ServiceCIDR](),
	},
})

func validateServiceCIDR(c *networkingv1.ServiceCIDR) field.ErrorList {
	path, cidrs := field.NewPath("spec", "cidrs"), c.Spec.CIDRs
	switch {
	case len(cidrs) == 0:
		return field.ErrorList{field.Required(path, "at least one CIDR required")}
	case len(cidrs) > 2:
		return field.ErrorList{field.Invalid(path, c.Spec, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	for i, cidr := range cidrs {
		errs = append(errs, validation.IsValidCIDR(path.Index(i), cidr)...)
	}
	if len(errs) == 0 && len(cidrs) == 2 && family(cidrs[0]) == family(cidrs[1]) {
		errs = append(errs, field.Invalid(path, cidrs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
	}
	return errs
}

func family(cidr string) int {
	address, _, _ := strings.Cut(cidr, "/")
	return check.Family(address)
}

// validateServiceCIDRUpdate allows only one change: a second family beside the first.
func validateServiceCIDRUpdate(c, old *networkingv1.ServiceCIDR) field.ErrorList {
	path, now, was := field.NewPath("spec", "cidrs"), c.Spec.CIDRs, old.Spec.CIDRs
	if len(now) != len(was) && (len(was) != 1 || len(now) != 2) {
		return field.ErrorList{field.Invalid(path, now, immutable)}
	}
	var errs field.ErrorList
	for i, cidr := range was {
		if now[i] != cidr {
			errs = append(errs, field.Invalid(path.Index(i), now[i], immutable))
		}
	}
	return errs
}
