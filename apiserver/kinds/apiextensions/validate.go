package apiextensions

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

const (
	maxSelectable = 8
	maxWarning    = 256
)

var (
	columnTypes   = []string{"boolean", "date", "integer", "number", "string"}
	columnFormats = []string{"byte", "date", "date-time", "double", "float", "int32", "int64", "password"}
)

// validate checks a definition; old is nil for a new one.
func validate(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	spec, path := &d.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if old == nil && d.Name != spec.Names.Plural+"."+spec.Group {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), d.Name, `must be spec.names.plural+"."+spec.group`))
	}
	errs = append(errs, validateGroup(spec.Group, path.Child("group"))...)
	errs = append(errs, check.Among(spec.Scope, path.Child("scope"), apiextensionsv1.ClusterScoped, apiextensionsv1.NamespaceScoped)...)
	errs = append(errs, validateVersions(spec, old, path.Child("versions"))...)
	names := path.Child("names")
	for _, must := range []struct{ name, value string }{
		{"plural", spec.Names.Plural}, {"singular", spec.Names.Singular}, {"kind", spec.Names.Kind}, {"listKind", spec.Names.ListKind},
	} {
		if must.value == "" {
			errs = append(errs, field.Required(names.Child(must.name), ""))
		}
	}
	errs = append(errs, validateNames(&spec.Names, names)...)
	errs = append(errs, validateConversion(spec.Conversion, path.Child("conversion"))...)
	errs = append(errs, validateStored(d)...)
	if spec.PreserveUnknownFields && (old == nil || !old.Spec.PreserveUnknownFields) {
		errs = append(errs, field.Invalid(path.Child("preserveUnknownFields"), true,
			"cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"))
	}
	errs = append(errs, validateApproval(d, old)...)
	if old == nil {
		return errs
	}
	if Established(old) {
		errs = append(errs, check.Immutable(spec.Scope, old.Spec.Scope, path.Child("scope"))...)
		errs = append(errs, check.Immutable(spec.Names.Kind, old.Spec.Names.Kind, names.Child("kind"))...)
	}
	errs = append(errs, check.Immutable(spec.Group, old.Spec.Group, path.Child("group"))...)
	return append(errs, check.Immutable(spec.Names.Plural, old.Spec.Names.Plural, names.Child("plural"))...)
}

func validateGroup(group string, at *field.Path) field.ErrorList {
	if group == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if msgs := validation.IsDNS1123Subdomain(group); len(msgs) > 0 {
		return field.ErrorList{field.Invalid(at, group, strings.Join(msgs, ","))}
	}
	if !strings.Contains(group, ".") {
		return field.ErrorList{field.Invalid(at, group, "should be a domain with at least one dot")}
	}
	return nil
}

func validateNames(n *apiextensionsv1.CustomResourceDefinitionNames, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	label := func(at *field.Path, value, prefix string) {
		if value == "" {
			return
		}
		tested := value
		if prefix != "" {
			tested = strings.ToLower(value)
		}
		if msgs := validation.IsDNS1035Label(tested); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, value, prefix+strings.Join(msgs, ",")))
		}
	}
	const mixed = "may have mixed case, but should otherwise match: "
	label(at.Child("plural"), n.Plural, "")
	label(at.Child("singular"), n.Singular, "")
	label(at.Child("kind"), n.Kind, mixed)
	label(at.Child("listKind"), n.ListKind, mixed)
	for i, s := range n.ShortNames {
		label(at.Child("shortNames").Index(i), s, "")
	}
	for i, s := range n.Categories {
		label(at.Child("categories").Index(i), s, "")
	}
	if n.Kind != "" && n.Kind == n.ListKind {
		errs = append(errs, field.Invalid(at.Child("listKind"), n.ListKind, "kind and listKind may not be the same"))
	}
	return errs
}

func validateVersions(spec *apiextensionsv1.CustomResourceDefinitionSpec, old *apiextensionsv1.CustomResourceDefinition, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	var names []string
	stored := 0
	for i := range spec.Versions {
		v, at := &spec.Versions[i], at.Index(i)
		if v.Storage {
			stored++
		}
		names = append(names, v.Name)
		if msgs := validation.IsDNS1035Label(v.Name); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, strings.Join(msgs, ",")))
		}
		errs = append(errs, validateVersion(v, at, unchanged(v, old))...)
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(spec.Versions) {
		errs = append(errs, field.Invalid(at, spec.Versions, "must contain unique version names"))
	}
	if stored != 1 {
		errs = append(errs, field.Invalid(at, spec.Versions, "must have exactly one version marked as storage version"))
	}
	return errs
}

// unchanged says that the schema of a version is what it was: rules that cost too much, and were let in once, stay.
func unchanged(v *apiextensionsv1.CustomResourceDefinitionVersion, old *apiextensionsv1.CustomResourceDefinition) bool {
	if old == nil {
		return false
	}
	return slices.ContainsFunc(old.Spec.Versions, func(o apiextensionsv1.CustomResourceDefinitionVersion) bool {
		return o.Name == v.Name && equality.Semantic.DeepEqual(o.Schema, v.Schema)
	})
}

func validateVersion(v *apiextensionsv1.CustomResourceDefinitionVersion, at *field.Path, unchanged bool) field.ErrorList {
	errs := validateWarning(v, at.Child("deprecationWarning"))
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		errs = append(errs, field.Required(at.Child("schema", "openAPIV3Schema"), ""))
	} else {
		errs = append(errs, validateSchema(v, at.Child("schema", "openAPIV3Schema"), unchanged)...)
	}
	if v.Subresources != nil && v.Subresources.Scale != nil {
		errs = append(errs, validateScale(v.Subresources.Scale, at.Child("subresources"))...)
	}
	for i, c := range v.AdditionalPrinterColumns {
		errs = append(errs, validateColumn(&c, at.Child("additionalPrinterColumns").Index(i))...)
	}
	return append(errs, validateSelectable(v, at.Child("selectableFields"))...)
}

func validateWarning(v *apiextensionsv1.CustomResourceDefinitionVersion, at *field.Path) field.ErrorList {
	text := v.DeprecationWarning
	switch {
	case text == nil:
		return nil
	case !v.Deprecated:
		return field.ErrorList{field.Invalid(at, *text, "can only be set for deprecated versions")}
	case *text == "":
		return field.ErrorList{field.Invalid(at, *text, "must not be an empty string")}
	case len(*text) > maxWarning:
		return field.ErrorList{field.Invalid(at, *text, fmt.Sprintf("must be <= %d characters long", maxWarning))}
	}
	if i := strings.IndexFunc(*text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return field.ErrorList{field.Invalid(at, *text, fmt.Sprintf("must only contain printable UTF-8 characters; non-printable character found at index %d", i))}
	}
	return nil
}

func validateScale(s *apiextensionsv1.CustomResourceSubresourceScale, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	under := func(name, value string, roots ...string) {
		at := at.Child("scale." + name)
		if value == "" {
			errs = append(errs, field.Required(at, ""))
			return
		}
		if bad := simplePath(value, at); len(bad) > 0 {
			errs = append(errs, bad...)
			return
		}
		for _, root := range roots {
			if strings.HasPrefix(value, root+".") {
				return
			}
		}
		under := "under " + roots[0]
		if len(roots) > 1 {
			under = "under either " + strings.Join(roots, " or ")
		}
		errs = append(errs, field.Invalid(at, value, "should be a json path "+under))
	}
	under("specReplicasPath", s.SpecReplicasPath, ".spec")
	under("statusReplicasPath", s.StatusReplicasPath, ".status")
	if s.LabelSelectorPath != nil && *s.LabelSelectorPath != "" {
		under("labelSelectorPath", *s.LabelSelectorPath, ".spec", ".status")
	}
	return errs
}

func simplePath(s string, at *field.Path) field.ErrorList {
	if s[0] != '.' {
		return field.ErrorList{field.Invalid(at, s, "must be a simple json path starting with .")}
	}
	return nil
}

func validateColumn(c *apiextensionsv1.CustomResourceColumnDefinition, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	types := "must be one of " + strings.Join(columnTypes, ",")
	switch {
	case c.Type == "":
		errs = append(errs, field.Required(at.Child("type"), types))
	case !slices.Contains(columnTypes, c.Type):
		errs = append(errs, field.Invalid(at.Child("type"), c.Type, types))
	}
	if c.Format != "" && !slices.Contains(columnFormats, c.Format) {
		errs = append(errs, field.Invalid(at.Child("format"), c.Format, "must be one of "+strings.Join(columnFormats, ",")))
	}
	if c.JSONPath == "" {
		return append(errs, field.Required(at.Child("JSONPath"), ""))
	}
	return append(errs, simplePath(c.JSONPath, at.Child("JSONPath"))...)
}

func validateConversion(c *apiextensionsv1.CustomResourceConversion, at *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	errs := check.Among(c.Strategy, at.Child("strategy"), apiextensionsv1.NoneConverter, apiextensionsv1.WebhookConverter)
	if c.Strategy != apiextensionsv1.WebhookConverter {
		if c.Webhook != nil {
			errs = append(errs, field.Forbidden(at.Child("webhookClientConfig"), "should not be set when strategy is not set to Webhook"))
		}
		return errs
	}
	if c.Webhook == nil || c.Webhook.ClientConfig == nil {
		errs = append(errs, field.Required(at.Child("webhookClientConfig"), "required when strategy is set to Webhook"))
	} else if cc := c.Webhook.ClientConfig; (cc.URL == nil) == (cc.Service == nil) {
		errs = append(errs, field.Required(at.Child("webhookClientConfig"), "exactly one of url or service is required"))
	} else if cc.URL != nil && !strings.HasPrefix(*cc.URL, "https://") {
		errs = append(errs, field.Invalid(at.Child("webhookClientConfig", "url"), *cc.URL, `'https' is the only allowed URL scheme; desired format: https://host[/path]`))
	} else if cc.Service != nil {
		if cc.Service.Name == "" {
			errs = append(errs, field.Required(at.Child("webhookClientConfig", "service", "name"), "service name is required"))
		}
		if cc.Service.Namespace == "" {
			errs = append(errs, field.Required(at.Child("webhookClientConfig", "service", "namespace"), "service namespace is required"))
		}
	}
	return append(errs, validateReviewVersions(c, at.Child("conversionReviewVersions"))...)
}

func validateReviewVersions(c *apiextensionsv1.CustomResourceConversion, at *field.Path) field.ErrorList {
	if c.Webhook == nil || len(c.Webhook.ConversionReviewVersions) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	if v := c.Webhook.ConversionReviewVersions; !slices.Contains(v, "v1") {
		// Differs from upstream: v1beta1 reviews are not sent any more, all webhooks of today know v1.
		return field.ErrorList{field.Invalid(at, v, "must include at least one of v1")}
	}
	return nil
}

func validateStored(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	at, stored := field.NewPath("status", "storedVersions"), d.Status.StoredVersions
	if len(stored) == 0 {
		return field.ErrorList{field.Invalid(at, stored, "must have at least one stored version")}
	}
	var errs field.ErrorList
	for i, name := range stored {
		if !slices.ContainsFunc(d.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == name }) {
			errs = append(errs, field.Invalid(at.Index(i), name, fmt.Sprintf("missing from spec.versions; %[1]s was previously a storage version, and must remain in "+
				"spec.versions until a storage migration ensures no data remains persisted in %[1]s and removes %[1]s from status.storedVersions", name)))
		}
	}
	return errs
}

// validateApproval wants an approval for groups of the community's own domains.
func validateApproval(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	g := d.Spec.Group
	if g != "k8s.io" && g != "kubernetes.io" && !strings.HasSuffix(g, ".k8s.io") && !strings.HasSuffix(g, ".kubernetes.io") {
		return nil
	}
	at, value := field.NewPath("metadata", "annotations").Key(apiextensionsv1.KubeAPIApprovedAnnotation), d.Annotations[apiextensionsv1.KubeAPIApprovedAnnotation]
	if old != nil && reflect.DeepEqual(value, old.Annotations[apiextensionsv1.KubeAPIApprovedAnnotation]) {
		return nil
	}
	switch {
	case value == "":
		return field.ErrorList{field.Required(at, "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111")}
	case strings.HasPrefix(value, "unapproved"), strings.HasPrefix(value, "https://"), strings.HasPrefix(value, "http://"):
		return nil
	}
	return field.ErrorList{field.Invalid(at, value, "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111")}
}
