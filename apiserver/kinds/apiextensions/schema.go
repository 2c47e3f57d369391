package apiextensions

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// The most that a rule, and all rules of a schema, may be estimated to cost. Upstream's figures.
const (
	maxRuleCost   = 10_000_000
	maxSchemaCost = 100_000_000
)

// Internal turns a schema into the form that the schema libraries work on.
func Internal(s *apiextensionsv1.JSONSchemaProps) (*apiextensions.JSONSchemaProps, error) {
	out := &apiextensions.JSONSchemaProps{}
	return out, apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(s, out, nil)
}

// validateSchema checks a version's schema: each node by itself, then the whole.
func validateSchema(v *apiextensionsv1.CustomResourceDefinitionVersion, at *field.Path, unchanged bool) field.ErrorList {
	root := v.Schema.OpenAPIV3Schema
	var errs field.ErrorList
	if root.Nullable {
		errs = append(errs, field.Forbidden(at.Key("nullable"), "nullable cannot be true at the root"))
	}
	if v.Subresources != nil && v.Subresources.Status != nil && root.Type != "object" {
		errs = append(errs, field.Invalid(at.Child("type"), root.Type, `only "object" is allowed as the type at the root of the schema if the status subresource is enabled`))
	}
	node{root: true, defaults: true}.validate(root, at, &errs)
	internal, err := Internal(root)
	if err != nil {
		return append(errs, field.Invalid(at, "", err.Error()))
	}
	structural, err := schema.NewStructural(internal)
	if err != nil {
		if len(errs) == 0 {
			errs = append(errs, field.Invalid(at, "", err.Error()))
		}
		return errs
	}
	if bad := schema.ValidateStructural(at, structural); len(bad) > 0 {
		return append(errs, bad...)
	}
	bad, err := defaulting.ValidateDefaults(context.Background(), at, structural, true, true)
	if err != nil {
		return append(errs, field.Invalid(at, "", err.Error()))
	}
	errs = append(errs, bad...)
	if len(errs) > 0 {
		return errs // rules of a schema that is wrong cannot be judged
	}
	r := rules{unchanged: unchanged}
	r.visit(structural, model.SchemaDeclType(structural, true), at, 1, nil)
	if r.total > maxSchemaCost && !unchanged {
		r.errs = append(r.errs, field.Forbidden(at, tooDear("x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema", r.total, maxSchemaCost)))
	}
	if len(r.errs) == 0 {
		if _, _, err := schemavalidation.NewSchemaValidator(internal); err != nil {
			return field.ErrorList{field.Invalid(at, "", fmt.Sprintf("error building validator: %v", err))}
		}
	}
	return r.errs
}

// node says where in a schema a node lies.
type node struct {
	root, meta bool   // the root; apiVersion, kind or metadata of an object
	defaults   bool   // may be set here
	why        string // why not
}

var schemaTypes = []string{"array", "boolean", "integer", "number", "object", "string"}

// validate checks one node and those below.
func (n node) validate(s *apiextensionsv1.JSONSchemaProps, at *field.Path, errs *field.ErrorList) {
	if s == nil {
		return
	}
	add := func(e *field.Error) { *errs = append(*errs, e) }
	if s.Type == "null" {
		add(field.Forbidden(at.Child("type"), "type cannot be set to null, use nullable as an alternative"))
	} else if s.Type != "" && !slices.Contains(schemaTypes, s.Type) {
		add(field.NotSupported(at.Child("type"), s.Type, schemaTypes))
	}
	if s.Default != nil && !n.defaults {
		add(field.Forbidden(at.Child("default"), strings.TrimSpace("must not be set "+n.why)))
	}
	for _, no := range []struct {
		name string
		set  bool
	}{
		{"id", s.ID != ""}, {"additionalItems", s.AdditionalItems != nil}, {"patternProperties", len(s.PatternProperties) > 0},
		{"definitions", len(s.Definitions) > 0}, {"dependencies", s.Dependencies != nil}, {"$ref", s.Ref != nil},
	} {
		if no.set {
			add(field.Forbidden(at.Child(no.name), no.name+" is not supported"))
		}
	}
	if s.Items != nil && len(s.Items.JSONSchemas) > 0 {
		add(field.Forbidden(at.Child("items"), "items must be a schema object and not an array"))
	}
	if n.meta && s.XEmbeddedResource {
		add(field.Forbidden(at.Child("x-kubernetes-embedded-resource"), "must not be used inside of resource meta"))
	}
	if s.UniqueItems {
		add(field.Forbidden(at.Child("uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"))
	}
	if p := s.XPreserveUnknownFields; p != nil && !*p {
		add(field.Invalid(at.Child("x-kubernetes-preserve-unknown-fields"), *p, "must be true or undefined"))
	}
	validateMerge(s, at, add)
	for i := range s.XValidations {
		validateRule(&s.XValidations[i], at.Child("x-kubernetes-validations").Index(i), add)
	}
	n.children(s, at, errs)
}

func (n node) children(s *apiextensionsv1.JSONSchemaProps, at *field.Path, errs *field.ErrorList) {
	below := n
	below.root = false
	if a := s.AdditionalProperties; a != nil {
		if len(s.Properties) > 0 && (!a.Allows || a.Schema != nil) {
			*errs = append(*errs, field.Forbidden(at.Child("additionalProperties"), "additionalProperties and properties are mutual exclusive"))
		}
		below := below
		if n.meta {
			below.defaults, below.why = false, "inside additionalProperties applying to object metadata"
		}
		below.validate(a.Schema, at.Child("additionalProperties"), errs)
	}
	for name, p := range s.Properties {
		below := below
		if (n.root || s.XEmbeddedResource) && (name == "metadata" || name == "kind" || name == "apiVersion") {
			below.meta = true
			if n.root {
				below.defaults, below.why = false, "in top-level "+name
			}
		}
		below.validate(&p, at.Child("properties").Key(name), errs)
	}
	if s.Items != nil {
		below.validate(s.Items.Schema, at.Child("items"), errs)
	}
	below.validate(s.Not, at.Child("not"), errs)
	for _, list := range []struct {
		name string
		of   []apiextensionsv1.JSONSchemaProps
	}{{"allOf", s.AllOf}, {"oneOf", s.OneOf}, {"anyOf", s.AnyOf}} {
		for i := range list.of {
			below.validate(&list.of[i], at.Child(list.name).Index(i), errs)
		}
	}
}

// validateMerge checks how lists and maps merge.
func validateMerge(s *apiextensionsv1.JSONSchemaProps, at *field.Path, add func(*field.Error)) {
	typed := func(extension, want string) {
		if s.Type == "" {
			add(field.Required(at.Child("type"), fmt.Sprintf("must be %s if %s is specified", want, extension)))
		} else if s.Type != want {
			add(field.Invalid(at.Child("type"), s.Type, fmt.Sprintf("must be %s if %s is specified", want, extension)))
		}
	}
	if t := s.XMapType; t != nil {
		typed("x-kubernetes-map-type", "object")
		if *t != "atomic" && *t != "granular" {
			add(field.NotSupported(at.Child("x-kubernetes-map-type"), *t, []string{"atomic", "granular"}))
		}
	}
	kind := ""
	if s.XListType != nil {
		kind = *s.XListType
		typed("x-kubernetes-list-type", "array")
		if kind != "atomic" && kind != "set" && kind != "map" {
			add(field.NotSupported(at.Child("x-kubernetes-list-type"), kind, []string{"atomic", "set", "map"}))
		}
	}
	if len(s.XListMapKeys) > 0 && kind != "map" {
		const text = "must be map if x-kubernetes-list-map-keys is non-empty"
		if kind == "" {
			add(field.Required(at.Child("x-kubernetes-list-type"), text))
		} else {
			add(field.Invalid(at.Child("x-kubernetes-list-type"), kind, text))
		}
	}
	var item *apiextensionsv1.JSONSchemaProps
	if s.Items != nil {
		item = s.Items.Schema
	}
	if item != nil && item.Nullable && (kind == "set" || kind == "map") {
		add(field.Forbidden(at.Child("items", "nullable"), "cannot be nullable when x-kubernetes-list-type is "+kind))
	}
	switch {
	case kind == "set" && item != nil && item.Type == "object" && (item.XMapType == nil || *item.XMapType != "atomic"):
		add(field.Invalid(at.Child("items", "x-kubernetes-map-type"), item.XMapType, "must be atomic as item of a list with x-kubernetes-list-type=set"))
	case kind == "set" && item != nil && item.Type == "array" && item.XListType != nil && *item.XListType != "atomic":
		add(field.Invalid(at.Child("items", "x-kubernetes-list-type"), item.XListType, "must be atomic as item of a list with x-kubernetes-list-type=set"))
	case kind == "map":
		validateKeys(s, item, at, add)
	}
}

// validateKeys checks a list that is a map by some of its items' fields.
func validateKeys(s, item *apiextensionsv1.JSONSchemaProps, at *field.Path, add func(*field.Error)) {
	keys := at.Child("x-kubernetes-list-map-keys")
	if len(s.XListMapKeys) == 0 {
		add(field.Required(keys, "must not be empty if x-kubernetes-list-type is map"))
	}
	if item == nil {
		add(field.Required(at.Child("items"), "must have a schema if x-kubernetes-list-type is map"))
		return
	}
	if item.Type != "object" {
		add(field.Invalid(at.Child("items", "type"), item.Type, "must be object if parent array's x-kubernetes-list-type is map"))
		return
	}
	for i, k := range s.XListMapKeys {
		at := at.Child("items", "properties").Key(k)
		p, ok := item.Properties[k]
		switch {
		case !ok:
			add(field.Invalid(keys, s.XListMapKeys, "entries must all be names of item properties"))
			continue
		case p.Type == "array" || p.Type == "object":
			add(field.Invalid(at.Child("type"), p.Type, "must be a scalar type if parent array's x-kubernetes-list-type is map"))
		}
		if slices.Contains(s.XListMapKeys[:i], k) {
			add(field.Invalid(keys, s.XListMapKeys, "must not contain duplicate entries"))
		}
		if p.Default == nil && !slices.Contains(item.Required, k) {
			add(field.Required(at.Child("default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"))
		}
		if p.Nullable {
			add(field.Forbidden(at.Child("nullable"), "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"))
		}
	}
}

var reasons = []apiextensionsv1.FieldValueErrorReason{
	apiextensionsv1.FieldValueDuplicate, apiextensionsv1.FieldValueForbidden, apiextensionsv1.FieldValueInvalid, apiextensionsv1.FieldValueRequired,
}

func validateRule(r *apiextensionsv1.ValidationRule, at *field.Path, add func(*field.Error)) {
	lines := func(s string) bool { return strings.ContainsAny(s, "\n\r") }
	rule, message := strings.TrimSpace(r.Rule), strings.TrimSpace(r.Message)
	switch {
	case rule == "":
		add(field.Required(at.Child("rule"), "rule is not specified"))
	case r.Message != "" && message == "":
		add(field.Invalid(at.Child("message"), r.Message, "must be non-empty if specified"))
	case lines(message):
		add(field.Invalid(at.Child("message"), r.Message, "must not contain line breaks"))
	case lines(rule) && message == "":
		add(field.Required(at.Child("message"), "message must be specified if rule contains line breaks"))
	}
	if r.MessageExpression != "" && strings.TrimSpace(r.MessageExpression) == "" {
		add(field.Required(at.Child("messageExpression"), "messageExpression must be non-empty if specified"))
	}
	if r.Reason != nil && !slices.Contains(reasons, *r.Reason) {
		add(field.NotSupported(at.Child("reason"), *r.Reason, reasons))
	}
	if lines(r.FieldPath) {
		add(field.Invalid(at.Child("fieldPath"), r.FieldPath, "must not contain line breaks"))
	}
}

// rules compiles the rules of a schema and adds up what they may cost.
type rules struct {
	unchanged bool
	total     uint64
	errs      field.ErrorList
}

// unbounded is how often a node may occur when nobody knows.
const unbounded = 0

// visit judges the rules of a node, which occurs at most times times in an object, and of those below. Lost is where
// the old state of a node can no longer be told, nil when it can.
func (r *rules) visit(s *schema.Structural, decl *apiservercel.DeclType, at *field.Path, times uint64, lost *field.Path) {
	if s == nil || decl == nil {
		return
	}
	if len(s.XValidations) > 0 {
		r.compile(s, decl, at.Child("x-kubernetes-validations"), times, lost)
	}
	switch {
	case s.Items != nil:
		below := lost
		if below == nil && (s.XListType == nil || *s.XListType != "map") {
			below = at
		}
		var most *int64
		if s.ValueValidation != nil {
			most = s.ValueValidation.MaxItems
		}
		r.visit(s.Items, decl.ElemType, at.Child("items"), multiply(times, most), below)
	case s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil:
		var most *int64
		if s.ValueValidation != nil {
			most = s.ValueValidation.MaxProperties
		}
		r.visit(s.AdditionalProperties.Structural, decl.ElemType, at.Child("additionalProperties"), multiply(times, most), lost)
	}
	if lost == nil && !cel.MapIsCorrelatable(s.XMapType) {
		lost = at
	}
	for name, p := range s.Properties {
		escaped, ok := apiservercel.Escape(name)
		if !ok {
			continue
		}
		if f := decl.Fields[escaped]; f != nil {
			r.visit(&p, f.Type, at.Child("properties").Key(name), times, lost)
		}
	}
}

func multiply(times uint64, most *int64) uint64 {
	if times == unbounded || most == nil || *most <= 0 {
		return unbounded
	}
	return product(times, uint64(*most))
}

func product(a, b uint64) uint64 {
	if a != 0 && b > math.MaxUint64/a {
		return math.MaxUint64
	}
	return a * b
}

func (r *rules) compile(s *schema.Structural, decl *apiservercel.DeclType, at *field.Path, times uint64, lost *field.Path) {
	env := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	results, err := cel.Compile(s, decl, celconfig.PerCallLimit, env, cel.NewExpressionsEnvLoader())
	if err != nil {
		r.errs = append(r.errs, field.InternalError(at, err))
		return
	}
	for i, result := range results {
		at := at.Index(i)
		occurs := times
		if occurs == unbounded {
			occurs = result.MaxCardinality
		}
		cost := product(result.MaxCost, occurs)
		r.total += min(cost, math.MaxUint64-r.total)
		if cost > maxRuleCost && !r.unchanged {
			r.errs = append(r.errs, field.Forbidden(at.Child("rule"), tooDear("estimated rule cost", cost, maxRuleCost)))
		}
		if e := result.Error; e != nil {
			if e.Type == apiservercel.ErrorTypeRequired {
				r.errs = append(r.errs, field.Required(at.Child("rule"), e.Detail))
			} else {
				r.errs = append(r.errs, field.Invalid(at.Child("rule"), s.XValidations[i], e.Detail))
			}
		}
		if e := result.MessageExpressionError; e != nil {
			r.errs = append(r.errs, field.Invalid(at.Child("messageExpression"), s.XValidations[i], e.Detail))
		} else if result.MessageExpression != nil && result.MessageExpressionMaxCost > maxRuleCost && !r.unchanged {
			r.errs = append(r.errs, field.Forbidden(at.Child("messageExpression"), tooDear("estimated messageExpression cost", result.MessageExpressionMaxCost, maxRuleCost)))
		}
		switch optional := s.XValidations[i].OptionalOldSelf; {
		case result.UsesOldSelf && lost != nil:
			r.errs = append(r.errs, field.Invalid(at.Child("rule"), s.XValidations[i].Rule, fmt.Sprintf("oldSelf cannot be used on the uncorrelatable portion of the schema within %v", lost)))
		case !result.UsesOldSelf && optional != nil:
			r.errs = append(r.errs, field.Invalid(at.Child("optionalOldSelf"), *optional, "may not be set if oldSelf is not used in rule"))
		}
	}
}

func tooDear(what string, cost, most uint64) string {
	by := float64(cost) / float64(most)
	factor := fmt.Sprintf("%.1fx", by)
	switch {
	case by > 100:
		factor = "more than 100x"
	case by < 1.5:
		factor = fmt.Sprintf("%fx", by)
	}
	return fmt.Sprintf("%s exceeds budget by factor of %s (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)", what, factor)
}

func validateSelectable(v *apiextensionsv1.CustomResourceDefinitionVersion, at *field.Path) field.ErrorList {
	if len(v.SelectableFields) == 0 || v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return nil
	}
	internal, err := Internal(v.Schema.OpenAPIV3Schema)
	if err != nil {
		return field.ErrorList{field.Invalid(at, "", err.Error())}
	}
	structural, err := schema.NewStructural(internal)
	if err != nil {
		return nil // said elsewhere
	}
	var errs field.ErrorList
	var seen []string
	for i, f := range v.SelectableFields {
		at := at.Index(i).Child("jsonPath")
		if f.JSONPath == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		path, found, err := cel.ValidFieldPath(f.JSONPath, structural, cel.WithFieldPathAllowArrayNotation(false))
		if err != nil {
			errs = append(errs, field.Invalid(at, f.JSONPath, fmt.Sprintf("is an invalid path: %v", err)))
			continue
		}
		if path.Root().String() == "metadata" {
			errs = append(errs, field.Invalid(at, f.JSONPath, "must not point to fields in metadata"))
		}
		if found == nil || !slices.Contains([]string{"string", "boolean", "integer"}, found.Type) {
			errs = append(errs, field.Invalid(at, f.JSONPath, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."))
		}
		if slices.Contains(seen, path.String()) {
			errs = append(errs, field.Duplicate(at, f.JSONPath))
		}
		seen = append(seen, path.String())
	}
	if len(seen) > maxSelectable {
		errs = append(errs, field.TooMany(at, len(seen), maxSelectable))
	}
	return errs
}
