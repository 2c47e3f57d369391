package networking

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// NetworkPolicy says who may talk to some pods, and to whom they may talk.
var NetworkPolicy = resource.Define(scheme.Types, resource.Spec[networkingv1.NetworkPolicy]{
	Names:       resource.Names{Group: group, Version: version, Kind: "NetworkPolicy", Plural: "networkpolicies", Short: []string{"netpol"}},
	Scope:       resource.Namespaced,
	Default:     defaultPolicy,
	SpecChanged: func(p, old *networkingv1.NetworkPolicy) bool { return !equality.Semantic.DeepEqual(p.Spec, old.Spec) },
	Validate:    validatePolicy,
	// Networks that are there already may be written in ways that are no longer taken.
	ValidateCreate: func(p *networkingv1.NetworkPolicy) field.ErrorList { return validateBlocks(p, nil) },
	ValidateUpdate: func(p, old *networkingv1.NetworkPolicy) field.ErrorList {
		var had []string
		eachBlock(old, func(b *networkingv1.IPBlock, _ *field.Path) { had = append(append(had, b.CIDR), b.Except...) })
		return validateBlocks(p, had)
	},
	Warnings: func(p, _ *networkingv1.NetworkPolicy) []string {
		var warnings []string
		eachBlock(p, func(b *networkingv1.IPBlock, at *field.Path) {
			warnings = append(warnings, validation.GetWarningsForCIDR(at.Child("cidr"), b.CIDR)...)
			for i, except := range b.Except {
				warnings = append(warnings, validation.GetWarningsForCIDR(at.Child("except").Index(i), except)...)
			}
		})
		return warnings
	},
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[networkingv1.NetworkPolicy]{
		{Name: "Pod-Selector", Describe: networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"], Value: func(p *networkingv1.NetworkPolicy) any {
			return metav1.FormatLabelSelector(&p.Spec.PodSelector)
		}},
		show.Age[networkingv1.NetworkPolicy](),
	},
})

func defaultPolicy(p *networkingv1.NetworkPolicy) {
	if len(p.Spec.PolicyTypes) == 0 {
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(p.Spec.Egress) > 0 {
			p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
	for _, d := range directions(p) {
		for i := range d.ports {
			fill.Ptr(&d.ports[i].Protocol, corev1.ProtocolTCP)
		}
	}
}

// direction is a rule for one of the two ways.
type direction struct {
	at    *field.Path
	word  string // what peers are called
	ports []networkingv1.NetworkPolicyPort
	peers []networkingv1.NetworkPolicyPeer
}

func directions(p *networkingv1.NetworkPolicy) []direction {
	var out []direction
	for i, r := range p.Spec.Ingress {
		out = append(out, direction{field.NewPath("spec", "ingress").Index(i), "from", r.Ports, r.From})
	}
	for i, r := range p.Spec.Egress {
		out = append(out, direction{field.NewPath("spec", "egress").Index(i), "to", r.Ports, r.To})
	}
	return out
}

func eachBlock(p *networkingv1.NetworkPolicy, visit func(*networkingv1.IPBlock, *field.Path)) {
	for _, d := range directions(p) {
		for i, peer := range d.peers {
			if peer.IPBlock != nil {
				visit(peer.IPBlock, d.at.Child(d.word).Index(i).Child("ipBlock"))
			}
		}
	}
}

func validatePolicy(p *networkingv1.NetworkPolicy) field.ErrorList {
	path := field.NewPath("spec")
	errs := check.Selector(&p.Spec.PodSelector, path.Child("podSelector"))
	for _, d := range directions(p) {
		for i := range d.ports {
			errs = append(errs, validatePolicyPort(&d.ports[i], d.at.Child("ports").Index(i))...)
		}
		for i := range d.peers {
			errs = append(errs, validatePeer(&d.peers[i], d.at.Child(d.word).Index(i))...)
		}
	}
	if len(p.Spec.PolicyTypes) > 2 {
		return append(errs, field.Invalid(path.Child("policyTypes"), &p.Spec.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, t := range p.Spec.PolicyTypes {
		errs = append(errs, check.Among(t, path.Child("policyTypes").Index(i), networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress)...)
	}
	return errs
}

func validatePolicyPort(p *networkingv1.NetworkPolicyPort, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Protocol != nil {
		errs = append(errs, check.Among(*p.Protocol, at.Child("protocol"), corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
	}
	end := at.Child("endPort")
	if p.Port != nil {
		errs = append(errs, check.PortNumOrName(*p.Port, at.Child("port"))...)
	}
	switch {
	case p.EndPort == nil:
	case p.Port == nil:
		errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is not specified"))
	case p.Port.Type == intstr.String:
		errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is non-numeric"))
	default:
		if *p.EndPort < p.Port.IntVal {
			errs = append(errs, field.Invalid(end, p.Port.IntVal, "must be greater than or equal to `port`"))
		}
		errs = append(errs, check.Port(*p.EndPort, end)...)
	}
	return errs
}

func validatePeer(p *networkingv1.NetworkPolicyPeer, at *field.Path) field.ErrorList {
	if p.PodSelector == nil && p.NamespaceSelector == nil && p.IPBlock == nil {
		return field.ErrorList{field.Required(at, "must specify a peer")}
	}
	errs := check.Selector(p.PodSelector, at.Child("podSelector"))
	errs = append(errs, check.Selector(p.NamespaceSelector, at.Child("namespaceSelector"))...)
	if p.IPBlock != nil && (p.PodSelector != nil || p.NamespaceSelector != nil) {
		errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
	}
	return errs
}

// validateBlocks checks networks, except for those that were there already.
func validateBlocks(p *networkingv1.NetworkPolicy, had []string) field.ErrorList {
	var errs field.ErrorList
	eachBlock(p, func(b *networkingv1.IPBlock, at *field.Path) {
		if b.CIDR == "" {
			errs = append(errs, field.Required(at.Child("cidr"), ""))
			return
		}
		errs = append(errs, validation.IsValidCIDRForLegacyField(at.Child("cidr"), b.CIDR, true, had)...)
		_, network, err := netutils.ParseCIDRSloppy(b.CIDR)
		if err != nil {
			return
		}
		size, _ := network.Mask.Size()
		for i, text := range b.Except {
			at := at.Child("except").Index(i)
			errs = append(errs, validation.IsValidCIDRForLegacyField(at, text, true, had)...)
			_, except, err := netutils.ParseCIDRSloppy(text)
			if err != nil {
				continue
			}
			if inner, _ := except.Mask.Size(); !network.Contains(except.IP) || size >= inner {
				errs = append(errs, field.Invalid(at, text, "must be a strict subset of `cidr`"))
			}
		}
	})
	return errs
}
