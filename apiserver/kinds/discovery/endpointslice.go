// Package discovery declares the kinds of the group discovery.k8s.io.
package discovery

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// Bounds of one slice.
const (
	maxTopologyLabels = 16
	maxAddresses      = 100
	maxPorts          = 20000
	maxEndpoints      = 1000
	maxHints          = 8
)

// EndpointSlice is a part of the addresses behind a Service.
var EndpointSlice = resource.Define(scheme.Types, resource.Spec[discoveryv1.EndpointSlice]{
	Names:                    resource.Names{Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice", Plural: "endpointslices"},
	Scope:                    resource.Namespaced,
	Default:                  defaultSlice,
	SpecChanged:              sliceChanged,
	Prepare:                  prepareSlice,
	Validate:                 validateSlice,
	ValidateUpdate:           validateSliceUpdate,
	Warnings:                 warnSlice,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[discoveryv1.EndpointSlice]{
		{Name: "AddressType", Describe: discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"], Value: func(s *discoveryv1.EndpointSlice) any { return string(s.AddressType) }},
		{Name: "Ports", Describe: discoveryv1.EndpointSlice{}.SwaggerDoc()["ports"], Value: showPorts},
		{Name: "Endpoints", Describe: discoveryv1.EndpointSlice{}.SwaggerDoc()["endpoints"], Value: showEndpoints},
		show.Age[discoveryv1.EndpointSlice](),
	},
})

func defaultSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		if p := &s.Ports[i]; p.Name == nil {
			p.Name = new(string)
		}
		if p := &s.Ports[i]; p.Protocol == nil {
			tcp := corev1.ProtocolTCP
			p.Protocol = &tcp
		}
	}
}

// sliceChanged counts everything but annotations and the like: whatever the proxies look at.
func sliceChanged(s, old *discoveryv1.EndpointSlice) bool {
	return s.AddressType != old.AddressType ||
		!equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) ||
		!equality.Semantic.DeepEqual(s.Ports, old.Ports) ||
		!equality.Semantic.DeepEqual(s.Labels, old.Labels)
}

// prepareSlice drops the topology of the beta version, of which v1 only reads. A node's name that an old slice kept
// there moves to nodeName.
func prepareSlice(_ context.Context, s, old *discoveryv1.EndpointSlice) {
	if old != nil && equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) {
		return
	}
	known := map[string]bool{}
	if old != nil {
		for _, e := range old.Endpoints {
			known[e.DeprecatedTopology[corev1.LabelHostname]] = true
		}
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		node := e.DeprecatedTopology[corev1.LabelHostname]
		if e.NodeName == nil && node != "" && known[node] && len(validation.IsDNS1123Subdomain(node)) == 0 {
			e.NodeName = &node
		}
		e.DeprecatedTopology = nil
	}
}

func validateSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := check.OneOf(s.AddressType, field.NewPath("addressType"),
		discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)
	errs = append(errs, validatePorts(s.Ports, field.NewPath("ports"))...)
	path := field.NewPath("endpoints")
	if len(s.Endpoints) > maxEndpoints {
		return append(errs, field.TooMany(path, len(s.Endpoints), maxEndpoints))
	}
	for i := range s.Endpoints {
		errs = append(errs, validateEndpoint(&s.Endpoints[i], s.AddressType, path.Index(i))...)
	}
	return errs
}

func validateEndpoint(e *discoveryv1.Endpoint, t discoveryv1.AddressType, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("addresses")
	switch {
	case len(e.Addresses) == 0:
		errs = append(errs, field.Required(at, "must contain at least 1 address"))
	case len(e.Addresses) > maxAddresses:
		errs = append(errs, field.TooMany(at, len(e.Addresses), maxAddresses))
	}
	for i, address := range e.Addresses {
		errs = append(errs, validateAddress(address, t, at, i)...)
	}
	if e.NodeName != nil {
		errs = append(errs, check.Subdomain(*e.NodeName, path.Child("nodeName"))...)
	}
	topology := path.Child("deprecatedTopology")
	if len(e.DeprecatedTopology) > maxTopologyLabels {
		errs = append(errs, field.TooMany(topology, len(e.DeprecatedTopology), maxTopologyLabels))
	}
	errs = append(errs, check.Labels(e.DeprecatedTopology, topology)...)
	if e.Hostname != nil {
		errs = append(errs, check.DNSLabel(*e.Hostname, path.Child("hostname"))...)
	}
	if e.Hints != nil {
		errs = append(errs, validateHints(e.Hints, path.Child("hints"))...)
	}
	return errs
}

func validateAddress(address string, t discoveryv1.AddressType, path *field.Path, i int) field.ErrorList {
	at := path.Index(i)
	var errs field.ErrorList
	switch t {
	case discoveryv1.AddressTypeIPv4:
		if errs = check.IP(address, at); len(errs) > 0 {
			return errs
		}
		if check.Family(address) != 4 {
			errs = append(errs, field.Invalid(path, address, "must be an IPv4 address"))
		}
	case discoveryv1.AddressTypeIPv6:
		if errs = validation.IsValidIP(at, address); len(errs) > 0 {
			return errs
		}
		if check.Family(address) != 6 {
			errs = append(errs, field.Invalid(path, address, "must be an IPv6 address"))
		}
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(at, address)
	default:
		return nil
	}
	return append(errs, check.EndpointIP(address, at)...)
}

func validatePorts(ports []discoveryv1.EndpointPort, path *field.Path) field.ErrorList {
	if len(ports) > maxPorts {
		return field.ErrorList{field.TooMany(path, len(ports), maxPorts)}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, p := range ports {
		at := path.Index(i)
		if p.Name != nil {
			if *p.Name != "" {
				errs = append(errs, check.DNSLabel(*p.Name, at.Child("name"))...)
			}
			if seen[*p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), *p.Name))
			}
			seen[*p.Name] = true
		}
		if p.Protocol == nil {
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		} else {
			errs = append(errs, check.Among(*p.Protocol, at.Child("protocol"), corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		}
		if p.AppProtocol != nil {
			errs = append(errs, check.QualifiedName(*p.AppProtocol, at.Child("appProtocol"))...)
		}
	}
	return errs
}

func validateHints(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	var zones, nodes []string
	for _, z := range h.ForZones {
		zones = append(zones, z.Name)
	}
	for _, n := range h.ForNodes {
		nodes = append(nodes, n.Name)
	}
	errs := validateHintNames(zones, path.Child("forZones"), validation.IsValidLabelValue)
	return append(errs, validateHintNames(nodes, path.Child("forNodes"), validation.IsDNS1123Subdomain)...)
}

func validateHintNames(names []string, path *field.Path, valid func(string) []string) field.ErrorList {
	if len(names) > maxHints {
		return field.ErrorList{field.TooMany(path, len(names), maxHints)}
	}
	var errs field.ErrorList
	for i, name := range names {
		at := path.Index(i).Child("name")
		if slices.Contains(names[:i], name) {
			errs = append(errs, field.Duplicate(at, name))
		}
		errs = append(errs, check.Each(at, name, valid(name))...)
	}
	return errs
}

func validateSliceUpdate(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	return check.Immutable(s.AddressType, old.AddressType, field.NewPath("addressType"))
}

func warnSlice(s, old *discoveryv1.EndpointSlice) []string {
	var warnings []string
	if old == nil && s.AddressType == discoveryv1.AddressTypeFQDN {
		warnings = append(warnings, fmt.Sprintf("%s: FQDN endpoints are deprecated", field.NewPath("spec", "addressType")))
	}
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return warnings
	}
	for i, e := range s.Endpoints {
		for j, address := range e.Addresses {
			warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("endpoints").Index(i).Child("addresses").Index(j), address)...)
		}
	}
	return warnings
}

func showPorts(s *discoveryv1.EndpointSlice) any {
	var ports []string
	for _, p := range s.Ports {
		switch {
		case p.Port != nil:
			ports = append(ports, strconv.Itoa(int(*p.Port)))
		case p.Name != nil:
			ports = append(ports, *p.Name)
		default:
			ports = append(ports, "*")
		}
	}
	return show.Or(show.FirstThree(ports), show.Unset)
}

func showEndpoints(s *discoveryv1.EndpointSlice) any {
	var addresses []string
	for _, e := range s.Endpoints {
		addresses = append(addresses, e.Addresses...)
	}
	return show.Or(show.FirstThree(addresses), show.Unset)
}
