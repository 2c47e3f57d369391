package openapi

import (
	"reflect"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// node is a piece of a document on its way to JSON, whose keys come out sorted: the same types always give the same
// bytes and the same ETag.
type node = map[string]any

// dialect is what the two versions of OpenAPI say differently about schemas.
type dialect struct {
	refs string // where models lie
	v3   bool
}

var (
	v2 = dialect{refs: "#/definitions/"}
	v3 = dialect{refs: "#/components/schemas/", v3: true}
)

func (d dialect) ref(m *Model) node { return node{"$ref": d.refs + m.Name} }

// model writes a model's schema. Kinds are the group, version and kind that it is served as.
func (d dialect) model(m *Model, kinds []schema.GroupVersionKind) node {
	n := node{}
	if m.Doc != "" {
		n["description"] = m.Doc
	}
	switch {
	case m.Format == "int-or-string" && d.v3:
		n["format"], n["oneOf"] = m.Format, []node{{"type": "integer"}, {"type": "string"}}
	case m.Scalar != "" && m.Format == "" && m.Scalar == "string" && d.v3 && m.Go.Name() == "Quantity":
		n["oneOf"] = []node{{"type": "string"}, {"type": "number"}}
	case m.Scalar == anyScalar:
	case m.Scalar != "":
		n["type"] = m.Scalar
		if m.Format != "" {
			n["format"] = m.Format
		}
	default:
		d.object(n, m)
	}
	if m.Atomic {
		n["x-kubernetes-map-type"] = "atomic"
	}
	if len(kinds) > 0 {
		var list []node
		for _, k := range kinds {
			list = append(list, node{"group": k.Group, "version": k.Version, "kind": k.Kind})
		}
		n["x-kubernetes-group-version-kind"] = list
	}
	return n
}

func (d dialect) object(n node, m *Model) {
	n["type"] = "object"
	properties, required := node{}, []string{}
	for _, f := range m.Fields {
		properties[f.Name] = d.field(f)
		if f.Required {
			required = append(required, f.Name)
		}
	}
	if len(properties) > 0 {
		n["properties"] = properties
	}
	if len(required) > 0 {
		n["required"] = required
	}
}

func (d dialect) field(f Field) node {
	n := d.schema(f.Type)
	described := f.Doc != "" || d.v3 && f.hasDefault()
	if ref, ok := n["$ref"]; ok && described && d.v3 {
		// Nothing may stand beside a reference in v3.
		n = node{"allOf": []node{{"$ref": ref}}}
	}
	if f.Doc != "" {
		n["description"] = f.Doc
	}
	if d.v3 && f.hasDefault() {
		n["default"] = f.defaultValue()
	}
	if f.Strategy != "" {
		n["x-kubernetes-patch-strategy"] = f.Strategy
	}
	if f.MergeKey != "" {
		n["x-kubernetes-patch-merge-key"] = f.MergeKey
	}
	list := f.Type.Elem != nil && !f.Type.IsMap
	switch {
	case list && f.Merge == "":
		n["x-kubernetes-list-type"] = "atomic"
	case list:
		n["x-kubernetes-list-type"] = f.Merge
		if len(f.Keys) > 0 {
			n["x-kubernetes-list-map-keys"] = f.Keys
		}
	case f.Merge != "":
		n["x-kubernetes-map-type"] = f.Merge
	}
	return n
}

func (d dialect) schema(t Type) node {
	switch {
	case t.Model != nil:
		return d.ref(t.Model)
	case t.Elem != nil && t.IsMap:
		return node{"type": "object", "additionalProperties": d.schema(*t.Elem)}
	case t.Elem != nil:
		return node{"type": "array", "items": d.schema(*t.Elem)}
	case t.Scalar == "":
		return node{}
	}
	n := node{"type": t.Scalar}
	if t.Format != "" {
		n["format"] = t.Format
	}
	return n
}

// hasDefault says that an absent value of this field means something.
func (f Field) hasDefault() bool {
	return f.Default != "" || f.Zero && (f.Type.Model != nil && f.Type.Model.Scalar == "" || f.Type.Scalar != "" && f.Type.Format != "byte")
}

// defaultValue is the meaning of an absent value as JSON.
func (f Field) defaultValue() any {
	switch f.Type.Scalar {
	case "integer":
		n, _ := strconv.Atoi(f.Default)
		return n
	case "number":
		n, _ := strconv.ParseFloat(f.Default, 64)
		return n
	case "boolean":
		return f.Default == "true"
	case "string":
		return f.Default
	}
	return node{}
}

// kindsOf finds the kinds a Go type is served as.
type kindsOf map[reflect.Type][]schema.GroupVersionKind
