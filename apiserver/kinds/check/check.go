// Package check holds the validation rules that several kinds share. Each takes a value and the path of the field it
// stands in, and returns what is wrong with it, in upstream's words; nothing wrong is nil.
package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// Each turns messages about one value into errors at its path.
func Each(path *field.Path, value any, msgs []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// DNSLabel wants an RFC 1123 label.
func DNSLabel(value string, path *field.Path) field.ErrorList {
	return Each(path, value, validation.IsDNS1123Label(value))
}

// Subdomain wants an RFC 1123 subdomain.
func Subdomain(value string, path *field.Path) field.ErrorList {
	return Each(path, value, validation.IsDNS1123Subdomain(value))
}

// QualifiedName wants a name with an optional domain before a slash.
func QualifiedName(value string, path *field.Path) field.ErrorList {
	return Each(path, value, validation.IsQualifiedName(value))
}

// NonNegative wants a number of at least zero.
func NonNegative[N ~int | ~int32 | ~int64](n N, path *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(int64(n), path)
}

// Immutable wants a field to be what it was.
func Immutable(now, old any, path *field.Path) field.ErrorList {
	return apivalidation.ValidateImmutableField(now, old, path)
}

// OneOf wants one of the allowed values; an empty one is missing.
func OneOf[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return Among(value, path, allowed...)
}

// Among is OneOf where the empty value is not singled out.
func Among[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, slices.Sorted(slices.Values(allowed)))}
}

// Port wants a port number between 1 and 65535.
func Port(n int32, path *field.Path) field.ErrorList {
	return Each(path, n, validation.IsValidPortNum(int(n)))
}

// PortNumOrName wants a port number or a port's name.
func PortNumOrName(port intstr.IntOrString, path *field.Path) field.ErrorList {
	if port.Type == intstr.Int {
		return Each(path, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
	}
	return Each(path, port.StrVal, validation.IsValidPortName(port.StrVal))
}

// IP wants an address, of either family, without leading zeros.
func IP(value string, path *field.Path) field.ErrorList {
	return validation.IsValidIPForLegacyField(path, value, true, nil)
}

// CIDR wants a network, such as 10.0.0.0/8.
func CIDR(value string, path *field.Path) field.ErrorList {
	return validation.IsValidCIDRForLegacyField(path, value, true, nil)
}

// EndpointIP wants an address that traffic may be sent to: not unspecified, loopback or link-local.
func EndpointIP(value string, path *field.Path) field.ErrorList {
	ip := netutils.ParseIPSloppy(value)
	if ip == nil {
		return field.ErrorList{field.Invalid(path, value, "must be a valid IP address")}
	}
	switch {
	case ip.IsUnspecified():
		return field.ErrorList{field.Invalid(path, value, fmt.Sprintf("may not be unspecified (%v)", value))}
	case ip.IsLoopback():
		return field.ErrorList{field.Invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)")}
	case ip.IsLinkLocalUnicast():
		return field.ErrorList{field.Invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")}
	case ip.IsLinkLocalMulticast():
		return field.ErrorList{field.Invalid(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")}
	}
	return nil
}

// Family is 4 or 6, and 0 for what is no address.
func Family(value string) int {
	addr, err := netip.ParseAddr(value)
	switch {
	case err != nil:
		if ip := netutils.ParseIPSloppy(value); ip != nil {
			return 4
		}
		return 0
	case addr.Is4() || addr.Is4In6():
		return 4
	}
	return 6
}

// Labels wants a valid set of labels.
func Labels(labels map[string]string, path *field.Path) field.ErrorList {
	return metav1validation.ValidateLabels(labels, path)
}

// Selector wants a well-formed label selector; nil is well-formed.
func Selector(s *metav1.LabelSelector, path *field.Path) field.ErrorList {
	return metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, path)
}

// PathSegment wants a name that can be one segment of a URL's path.
func PathSegment(value string) []string {
	if value == "." || value == ".." {
		return []string{fmt.Sprintf("may not be '%s'", value)}
	}
	var msgs []string
	for _, bad := range []string{"/", "%"} {
		if strings.Contains(value, bad) {
			msgs = append(msgs, fmt.Sprintf("may not contain '%s'", bad))
		}
	}
	return msgs
}

// Portion wants a number or a percentage.
func Portion(v intstr.IntOrString, path *field.Path) field.ErrorList {
	if v.Type == intstr.String {
		return Each(path, v, validation.IsValidPercent(v.StrVal))
	}
	return NonNegative(v.IntValue(), path)
}

// NotMoreThanAll is Portion that refuses more than 100%.
func NotMoreThanAll(v intstr.IntOrString, path *field.Path) field.ErrorList {
	errs := Portion(v, path)
	if n, percent := Amount(v); percent && n > 100 {
		errs = append(errs, field.Invalid(path, v, "must not be greater than 100%"))
	}
	return errs
}

// Amount is the number in a number or percentage; 0 for what is neither.
func Amount(v intstr.IntOrString) (n int, percent bool) {
	if v.Type == intstr.Int {
		return v.IntValue(), false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	if err != nil || len(validation.IsValidPercent(v.StrVal)) > 0 {
		return 0, false
	}
	return n, true
}
