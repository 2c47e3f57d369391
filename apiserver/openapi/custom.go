package openapi

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"hardway/apiserver/resource"
)

// customName is the name of a custom kind's model: com.example.stable.v1.CronTab for stable.example.com.
func customName(gvk schema.GroupVersionKind) string {
	parts := strings.Split(gvk.Group, ".")
	slices.Reverse(parts)
	return strings.Join(append(parts, gvk.Version, gvk.Kind), ".")
}

// custom is the schema of a custom kind with what all objects have.
func (d dialect) custom(e entry, models *Models) node {
	n := e.kind.Form.Schema(!d.v3)
	if _, ok := n["properties"]; ok || d.v3 {
		properties := child(n, "properties")
		d.objectProperties(properties, models)
		d.embedded(n, models)
	}
	n["x-kubernetes-group-version-kind"] = []node{{"group": e.names.Group, "version": e.names.Version, "kind": e.names.Kind}}
	return n
}

func child(n node, name string) node {
	c, ok := n[name].(node)
	if !ok {
		c = node{}
		n[name] = c
	}
	return c
}

// objectProperties describes apiVersion, kind and metadata.
func (d dialect) objectProperties(properties node, models *Models) {
	doc := metav1.TypeMeta{}.SwaggerDoc()
	properties["apiVersion"] = node{"type": "string", "description": doc["apiVersion"]}
	properties["kind"] = node{"type": "string", "description": doc["kind"]}
	properties["metadata"] = d.described(models.Of(reflect.TypeFor[metav1.ObjectMeta]()),
		"Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata")
}

func (d dialect) described(m *Model, text string) node {
	n := d.ref(m)
	if d.v3 {
		n = node{"allOf": []node{n}} // nothing may stand beside a reference
	}
	n["description"] = text
	return n
}

// embedded describes the same for objects within the object.
func (d dialect) embedded(n node, models *Models) {
	for _, value := range n {
		switch v := value.(type) {
		case node:
			d.embedded(v, models)
		case []any:
			for _, item := range v {
				if v, ok := item.(node); ok {
					d.embedded(v, models)
				}
			}
		}
	}
	if yes, _ := n["x-kubernetes-embedded-resource"].(bool); yes {
		if _, ok := n["properties"]; ok || d.v3 {
			d.objectProperties(child(n, "properties"), models)
		}
	}
}

func (d dialect) customList(e entry, item *Model, models *Models) node {
	doc := metav1.TypeMeta{}.SwaggerDoc()
	return node{
		"description": e.names.List + " is a list of " + e.names.Kind,
		"type":        "object",
		"required":    []string{"items"},
		"properties": node{
			"apiVersion": node{"type": "string", "description": doc["apiVersion"]},
			"kind":       node{"type": "string", "description": doc["kind"]},
			"metadata":   d.described(models.Of(reflect.TypeFor[metav1.ListMeta]()), "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"),
			"items": node{
				"type": "array", "items": d.ref(item),
				"description": "List of " + e.names.Plural + ". More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
			},
		},
		"x-kubernetes-group-version-kind": []node{{"group": e.names.Group, "version": e.names.Version, "kind": e.names.List}},
	}
}

// Schemas are the v3 schemas of one custom kind and of what it refers to, by the names of their models.
func Schemas(k *resource.Kind) (map[string]*spec.Schema, error) {
	models := NewModels()
	models.Of(reflect.TypeFor[metav1.ObjectMeta]())
	e := entry{kind: k, names: k.Names}
	all := node{customName(e.gvk()): v3.custom(e, models)}
	for _, m := range models.All() {
		all[m.Name] = v3.model(m, nil)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	out := map[string]*spec.Schema{}
	return out, json.Unmarshal(text, &out)
}
