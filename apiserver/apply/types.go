package apply

import (
	"fmt"
	"reflect"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"hardway/apiserver/openapi"
	"hardway/apiserver/resource"
)

// Types knows how the fields of every served type merge. It is built from the Go types when first needed.
type Types struct {
	kinds map[schema.GroupVersionKind]reflect.Type
	build func() map[reflect.Type]typed.ParseableType
}

var _ managedfields.TypeConverter = (*Types)(nil)

// NewTypes makes the types of some kinds, in all their versions.
func NewTypes(kinds []*resource.Kind) *Types {
	t := &Types{kinds: map[schema.GroupVersionKind]reflect.Type{}}
	for _, k := range kinds {
		t.kinds[k.GVK()] = reflect.TypeOf(k.New()).Elem()
		for _, v := range k.Versions {
			t.kinds[schema.GroupVersionKind{Group: v.Names.Group, Version: v.Names.Version, Kind: v.Names.Kind}] = reflect.TypeOf(v.New()).Elem()
		}
	}
	t.build = sync.OnceValue(t.parse)
	return t
}

// parse turns the models of all kinds into one merge schema.
func (t *Types) parse() map[reflect.Type]typed.ParseableType {
	models := openapi.NewModels()
	roots := map[reflect.Type]string{}
	for _, goType := range t.kinds {
		roots[goType] = models.Of(goType).Name
	}
	parser := typed.Parser{Schema: smd.Schema{Types: []smd.TypeDef{{Name: anyName, Atom: anything()}}}}
	for _, m := range models.All() {
		parser.Schema.Types = append(parser.Schema.Types, smd.TypeDef{Name: m.Name, Atom: atomOf(m)})
	}
	out := make(map[reflect.Type]typed.ParseableType, len(roots))
	for goType, name := range roots {
		out[goType] = parser.Type(name)
	}
	return out
}

// ObjectToTyped reads an object's fields. A typed object is known by its Go type, any other by apiVersion and kind.
func (t *Types) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		p, ok := t.build()[t.kinds[u.GroupVersionKind()]]
		if !ok {
			return nil, fmt.Errorf("no type is known for %s", u.GroupVersionKind())
		}
		return p.FromUnstructured(u.Object, opts...)
	}
	p, ok := t.build()[reflect.TypeOf(obj).Elem()]
	if !ok {
		return nil, fmt.Errorf("no type is known for %T", obj)
	}
	return p.FromStructured(obj, opts...)
}

// TypedToObject makes an unstructured object of a typed value.
func (t *Types) TypedToObject(value *typed.TypedValue) (runtime.Object, error) {
	fields, ok := value.AsValue().Unstructured().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("a %T is no object", value.AsValue().Unstructured())
	}
	return &unstructured.Unstructured{Object: fields}, nil
}

var (
	untyped   = smd.Scalar("untyped")
	atomic    = smd.Atomic
	separable = smd.Separable
)

// anyName is the type of what may be anything; it refers to itself.
const anyName = "any"

// anything merges as a whole, whatever it is.
func anything() smd.Atom {
	name := anyName
	ref := smd.TypeRef{NamedType: &name}
	return smd.Atom{
		Scalar: &untyped,
		List:   &smd.List{ElementType: ref, ElementRelationship: smd.Atomic},
		Map:    &smd.Map{ElementType: ref, ElementRelationship: smd.Atomic},
	}
}

func atomOf(m *openapi.Model) smd.Atom {
	switch {
	case m.Scalar == "object", m.Scalar == "any":
		return anything()
	case m.Scalar != "":
		return smd.Atom{Scalar: &untyped}
	}
	out := &smd.Map{}
	if m.Atomic {
		out.ElementRelationship = smd.Atomic
	}
	for _, f := range m.Fields {
		out.Fields = append(out.Fields, smd.StructField{Name: f.Name, Type: fieldType(f), Default: defaultOf(f)})
	}
	return smd.Atom{Map: out}
}

// fieldType is the type of a field with the field's own way of merging.
func fieldType(f openapi.Field) smd.TypeRef {
	ref := typeRef(f.Type)
	switch {
	case ref.Inlined.List != nil && f.Merge == "map":
		ref.Inlined.List.ElementRelationship = smd.Associative
		ref.Inlined.List.Keys = f.Keys
	case ref.Inlined.List != nil && f.Merge == "set":
		ref.Inlined.List.ElementRelationship = smd.Associative
	case ref.Inlined.Map != nil && f.Merge == "atomic":
		ref.Inlined.Map.ElementRelationship = smd.Atomic
	case ref.NamedType != nil && f.Merge == "atomic":
		ref.ElementRelationship = &atomic
	case ref.NamedType != nil && f.Merge == "granular":
		ref.ElementRelationship = &separable
	}
	return ref
}

func typeRef(t openapi.Type) smd.TypeRef {
	switch {
	case t.Model != nil:
		name := t.Model.Name
		return smd.TypeRef{NamedType: &name}
	case t.Elem != nil && t.IsMap:
		return smd.TypeRef{Inlined: smd.Atom{Map: &smd.Map{ElementType: typeRef(*t.Elem)}}}
	case t.Elem != nil:
		return smd.TypeRef{Inlined: smd.Atom{List: &smd.List{ElementType: typeRef(*t.Elem), ElementRelationship: smd.Atomic}}}
	}
	var s smd.Scalar
	switch t.Scalar {
	case "string":
		s = smd.String
	case "integer", "number":
		s = smd.Numeric
	case "boolean":
		s = smd.Boolean
	default:
		return smd.TypeRef{Inlined: anything()}
	}
	return smd.TypeRef{Inlined: smd.Atom{Scalar: &s}}
}

// defaultOf is what an absent field means: list keys such as a port's protocol need it.
func defaultOf(f openapi.Field) any {
	if f.Default == "" && !f.Zero {
		return nil
	}
	switch f.Type.Scalar {
	case "string":
		return f.Default
	case "integer":
		n, err := strconv.ParseInt(f.Default, 10, 64)
		if err != nil {
			n = 0
		}
		return n
	case "boolean":
		return f.Default == "true"
	}
	return nil
}
