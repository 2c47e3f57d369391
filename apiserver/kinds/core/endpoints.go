package core

import (
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// Endpoints is the old list of a Service's addresses; EndpointSlice replaces it.
var Endpoints = resource.Define(scheme.Types, resource.Spec[corev1.Endpoints]{
	Names:                    resource.Names{Version: "v1", Kind: "Endpoints", List: "EndpointsList", Plural: "endpoints", Singular: "endpoints", Short: []string{"ep"}},
	Scope:                    resource.Namespaced,
	StorageKey:               "services/endpoints",
	Default:                  defaultEndpoints,
	Validate:                 validateEndpoints,
	Warnings:                 warnEndpoints,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[corev1.Endpoints]{
		{Name: "Endpoints", Describe: corev1.Endpoints{}.SwaggerDoc()["subsets"], Value: showEndpoints},
		show.Age[corev1.Endpoints](),
	},
})

func defaultEndpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			if p := &e.Subsets[i].Ports[j]; p.Protocol == "" {
				p.Protocol = corev1.ProtocolTCP
			}
		}
	}
}

func validateEndpoints(e *corev1.Endpoints) field.ErrorList {
	var errs field.ErrorList
	for i := range e.Subsets {
		s, path := &e.Subsets[i], field.NewPath("subsets").Index(i)
		if len(s.Addresses)+len(s.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(path, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range s.Addresses {
			errs = append(errs, validateEndpointAddress(&s.Addresses[j], path.Child("addresses").Index(j))...)
		}
		for j := range s.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(&s.NotReadyAddresses[j], path.Child("notReadyAddresses").Index(j))...)
		}
		for j := range s.Ports {
			errs = append(errs, validateEndpointPort(&s.Ports[j], len(s.Ports) > 1, path.Child("ports").Index(j))...)
		}
	}
	return errs
}

func validateEndpointAddress(a *corev1.EndpointAddress, path *field.Path) field.ErrorList {
	errs := check.IP(a.IP, path.Child("ip"))
	if a.Hostname != "" {
		errs = append(errs, check.DNSLabel(a.Hostname, path.Child("hostname"))...)
	}
	if a.NodeName != nil {
		errs = append(errs, check.Subdomain(*a.NodeName, path.Child("nodeName"))...)
	}
	return append(errs, check.EndpointIP(a.IP, path.Child("ip"))...)
}

func validateEndpointPort(p *corev1.EndpointPort, needName bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Name != "" {
		errs = append(errs, check.DNSLabel(p.Name, path.Child("name"))...)
	} else if needName {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	errs = append(errs, check.Port(p.Port, path.Child("port"))...)
	errs = append(errs, check.OneOf(p.Protocol, path.Child("protocol"), protocols...)...)
	if p.AppProtocol != nil {
		errs = append(errs, check.QualifiedName(*p.AppProtocol, path.Child("appProtocol"))...)
	}
	return errs
}

func warnEndpoints(e, _ *corev1.Endpoints) []string {
	var warnings []string
	for i := range e.Subsets {
		for j, a := range e.Subsets[i].Addresses {
			warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("subsets").Index(i).Child("addresses").Index(j).Child("ip"), a.IP)...)
		}
		for j, a := range e.Subsets[i].NotReadyAddresses {
			warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("subsets").Index(i).Child("notReadyAddresses").Index(j).Child("ip"), a.IP)...)
		}
	}
	return warnings
}

func showEndpoints(e *corev1.Endpoints) any {
	if len(e.Subsets) == 0 {
		return show.None
	}
	var all []string
	for _, s := range e.Subsets {
		if len(s.Ports) == 0 {
			for _, a := range s.Addresses {
				all = append(all, a.IP)
			}
		}
		for _, p := range s.Ports {
			for _, a := range s.Addresses {
				all = append(all, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	return show.FirstThree(all)
}
