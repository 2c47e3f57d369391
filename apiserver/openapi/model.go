package openapi

import (
	_ "embed"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Type is the shape of a value. Exactly one of Model, Elem and Scalar says what it is.
type Type struct {
	Model  *Model // a named struct or scalar
	Elem   *Type  // a list's or map's elements
	IsMap  bool   // with Elem: a map from strings
	Scalar string // string, integer, number, boolean; "" with the rest empty: anything
	Format string
}

// Model is a named type.
type Model struct {
	Name   string // as upstream names it: io.k8s.api.core.v1.Pod
	Go     reflect.Type
	Doc    string
	Fields []Field
	// Scalar is set for the types that are no structs on the wire: Time, Quantity, IntOrString. "any" takes
	// every JSON value.
	Scalar, Format string
	// Atomic says that the struct is replaced as a whole.
	Atomic bool
}

// Field is one JSON field of a Model.
type Field struct {
	Name     string
	Doc      string
	Type     Type
	Required bool
	// Strategy and MergeKey are the strategic merge patch's.
	Strategy, MergeKey string
	// Merge is map, set, atomic, granular, or empty for the ordinary.
	Merge   string
	Keys    []string // of Merge map
	Default string   // what an absent value means, as text
	Zero    bool     // an absent value means the zero value
}

// Models reads models from Go types and keeps them. It is not safe for concurrent use.
type Models struct {
	byType map[reflect.Type]*Model
	rules  map[string]map[string]rule
}

// NewModels returns an empty set.
func NewModels() *Models {
	return &Models{byType: map[reflect.Type]*Model{}, rules: mergeRules()}
}

// All returns the models read so far, ordered by name.
func (m *Models) All() []*Model {
	all := make([]*Model, 0, len(m.byType))
	for _, model := range m.byType {
		all = append(all, model)
	}
	slices.SortFunc(all, func(a, b *Model) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Of returns the model of a struct type, reading it and all it refers to if it is new.
func (m *Models) Of(t reflect.Type) *Model {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if model, ok := m.byType[t]; ok {
		return model
	}
	model := &Model{Name: modelName(t), Go: t}
	m.byType[t] = model
	docs := swaggerDoc(t)
	model.Doc = docs[""]
	if scalar, format, ok := wireScalar(t); ok {
		model.Scalar, model.Format = scalar, format
		return model
	}
	rules := m.rules[shortName(model.Name)]
	model.Atomic = rules["."].merge == "atomic"
	m.fields(model, t, docs, rules)
	return model
}

// fields appends a struct's fields, those of inlined structs in their place.
func (m *Models) fields(model *Model, t reflect.Type, docs map[string]string, rules map[string]rule) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if name == "" {
			if inner := deref(f.Type); f.Anonymous && inner.Kind() == reflect.Struct {
				m.fields(model, inner, swaggerDoc(inner), rules)
			}
			continue
		}
		r := rules[name]
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		model.Fields = append(model.Fields, Field{
			Name: name, Doc: docs[name], Type: m.typeOf(f.Type),
			Required: required(f, name, optional, r.presence),
			Strategy: f.Tag.Get("patchStrategy"), MergeKey: f.Tag.Get("patchMergeKey"),
			Merge: r.merge, Keys: r.keys, Default: r.def, Zero: !optional && r.def == "" && f.Type.Kind() != reflect.Pointer,
		})
	}
}

// required says whether a field must be there. Tags tell it but for the exceptions in merge.txt; the parts of an object
// that are structs without omitempty, such as spec, may always be left out.
func required(f reflect.StructField, name string, optional bool, exception string) bool {
	if exception != "" {
		return exception == "required"
	}
	part := f.Type.Kind() == reflect.Struct && (name == "status" || name == "metadata" || name == "spec")
	return !optional && !part && f.Type.Kind() != reflect.Pointer
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func (m *Models) typeOf(t reflect.Type) Type {
	t = deref(t)
	switch t.Kind() {
	case reflect.Struct:
		return Type{Model: m.Of(t)}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return Type{Scalar: "string", Format: "byte"}
		}
		elem := m.typeOf(t.Elem())
		return Type{Elem: &elem}
	case reflect.Map:
		elem := m.typeOf(t.Elem())
		return Type{Elem: &elem, IsMap: true}
	case reflect.String:
		return Type{Scalar: "string"}
	case reflect.Bool:
		return Type{Scalar: "boolean"}
	case reflect.Int32, reflect.Uint8, reflect.Uint16, reflect.Int16, reflect.Int8:
		return Type{Scalar: "integer", Format: "int32"}
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64, reflect.Uint:
		return Type{Scalar: "integer", Format: "int64"}
	case reflect.Float32:
		return Type{Scalar: "number", Format: "float"}
	case reflect.Float64:
		return Type{Scalar: "number", Format: "double"}
	}
	return Type{}
}

// modelName asks the type for its name; types outside the published API are named after their package.
func modelName(t reflect.Type) string {
	if n, ok := reflect.TypeAssert[interface{ OpenAPIModelName() string }](reflect.Zero(t)); ok {
		return n.OpenAPIModelName()
	}
	return strings.ReplaceAll(t.PkgPath(), "/", ".") + "." + t.Name()
}

func swaggerDoc(t reflect.Type) map[string]string {
	if d, ok := reflect.TypeAssert[interface{ SwaggerDoc() map[string]string }](reflect.Zero(t)); ok {
		return d.SwaggerDoc()
	}
	return nil
}

// extensions begins the names of what custom resource definitions are made of.
const extensions = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."

// anyScalar is the Scalar of a model that takes every JSON value.
const anyScalar = "any"

// wireScalar asks a struct how it looks on the wire, for those that are no JSON objects.
func wireScalar(t reflect.Type) (scalar, format string, ok bool) {
	switch modelName(t) {
	case "io.k8s.apimachinery.pkg.runtime.RawExtension", "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1":
		return "object", "", true
	case extensions + "JSON", extensions + "JSONSchemaPropsOrArray", extensions + "JSONSchemaPropsOrBool", extensions + "JSONSchemaPropsOrStringArray":
		return anyScalar, "", true
	}
	if s, is := reflect.TypeAssert[interface{ OpenAPISchemaType() []string }](reflect.Zero(t)); is && len(s.OpenAPISchemaType()) > 0 {
		f, _ := reflect.TypeAssert[interface{ OpenAPISchemaFormat() string }](reflect.Zero(t))
		if f != nil {
			format = f.OpenAPISchemaFormat()
		}
		return s.OpenAPISchemaType()[0], format, true
	}
	return "", "", false
}

//go:embed merge.txt
var mergeText string

// rule is one line of merge.txt.
type rule struct {
	merge    string
	keys     []string
	def      string
	presence string // required or optional, where the tags say otherwise
}

// mergeRules reads merge.txt: model → field → rule. A field may have a default beside its rule.
var mergeRules = sync.OnceValue(func() map[string]map[string]rule {
	rules := map[string]map[string]rule{}
	for line := range strings.Lines(mergeText) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] == "#" {
			continue
		}
		model, field := words[0], words[1]
		if rules[model] == nil {
			rules[model] = map[string]rule{}
		}
		r := rules[model][field]
		switch words[2] {
		case "map":
			r.merge, r.keys = "map", strings.Split(words[3], ",")
		case "default":
			r.def = words[3]
		case "required", "optional":
			r.presence = words[2]
		default:
			r.merge = words[2]
		}
		rules[model][field] = r
	}
	return rules
})

func shortName(model string) string {
	for _, prefix := range []string{"io.k8s.api.", "io.k8s.apimachinery.pkg.apis.", "io.k8s.apimachinery.pkg.", "io.k8s.apiextensions-apiserver.pkg.apis.", "io.k8s.kube-aggregator.pkg.apis."} {
		if s, ok := strings.CutPrefix(model, prefix); ok {
			return s
		}
	}
	return model
}
