package crd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	openapiv2 "k8s.io/apiextensions-apiserver/pkg/controller/openapi/v2"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/jsonpath"

	"hardway/apiserver/kinds/scale"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

var verbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// kind declares a version as any other kind is declared.
func (v *version) kind(d *apiextensionsv1.CustomResourceDefinition) *resource.Kind {
	names := d.Status.AcceptedNames
	k := &resource.Kind{
		Names: resource.Names{
			Group: v.gvk.Group, Version: v.gvk.Version, Kind: names.Kind, List: names.ListKind, Plural: names.Plural,
			Singular: names.Singular, Short: names.ShortNames, Categories: names.Categories,
		},
		Scope: resource.Scope(d.Spec.Scope == apiextensionsv1.NamespaceScoped), StorageKey: v.gvk.Group + "/" + names.Plural, Verbs: verbs,
		New: func() resource.Object {
			return &object{Object: map[string]any{"apiVersion": v.gvk.GroupVersion().String(), "kind": v.gvk.Kind}}
		},
		NewList:              func() runtime.Object { return &unstructured.UnstructuredList{} },
		Default:              v.fill,
		HasStatus:            v.hasStatus(),
		SetStatus:            setStatus,
		HasGeneration:        true,
		SpecChanged:          specChanged,
		Prepare:              func(context.Context, resource.Object, resource.Object) {},
		Validate:             func(resource.Object) field.ErrorList { return nil },
		ValidateCreate:       v.validateNew,
		ValidateUpdate:       v.validateChange,
		ValidateStatusUpdate: v.validateStatus,
		Warnings:             warnings,
		Fields:               v.fields(),
		Columns:              v.columns(),
		Form: &resource.Form{
			Read: v.read, Marshal: v.marshal, Unmarshal: v.unmarshal, Stored: v.all.storage.gvk, Schema: v.schema, Loose: v.loose,
			Convert:    v.convertTo,
			Deprecated: v.deprecated(),
		},
	}
	if s := v.scale(); s != nil {
		k.Subresources = []resource.Subresource{scaling(v.gvk.Group, s)}
	}
	return k
}

func (v *version) deprecated() string {
	switch {
	case !v.spec.Deprecated:
		return ""
	case v.spec.DeprecationWarning != nil:
		return *v.spec.DeprecationWarning
	}
	return fmt.Sprintf("%s %s is deprecated", v.gvk.GroupVersion(), v.gvk.Kind)
}

func (v *version) convertTo(obj resource.Object, name string) (resource.Object, error) {
	to := v.all.by[name]
	if to == nil {
		return nil, fmt.Errorf("%s has no version %s", v.gvk.GroupKind(), name)
	}
	return v.all.to(context.Background(), obj, to)
}

func setStatus(dst, src resource.Object) {
	to, from := dst.(*object), src.(*object)
	if status, ok := from.Object["status"]; ok {
		to.Object["status"] = runtime.DeepCopyJSONValue(status)
	} else {
		delete(to.Object, "status")
	}
}

// specChanged says that anything but the metadata changed. Where the status has a way of its own it has been put back
// by then.
func specChanged(obj, old resource.Object) bool {
	is, was := obj.(*object).Object, old.(*object).Object
	for _, pair := range [2][2]map[string]any{{is, was}, {was, is}} {
		for key, value := range pair[0] {
			if key != "metadata" && !equality.Semantic.DeepEqual(value, pair[1][key]) {
				return true
			}
		}
	}
	return false
}

// schema is the schema that clients see.
func (v *version) schema(v2 bool) map[string]any {
	if v.spec.Schema == nil || v2 && (v.structural.XPreserveUnknownFields || v.loose) {
		// Clients of OpenAPI v2 would take what is not listed for forbidden.
		return map[string]any{"type": "object"}
	}
	s := v.structural
	if v2 {
		s = openapiv2.ToStructuralOpenAPIV2(s)
	}
	text, err := json.Marshal(s.ToKubeOpenAPI())
	out := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		return map[string]any{"type": "object"} // it was JSON before it was compiled
	}
	return out
}

// fields are the selectable fields.
func (v *version) fields() map[string]func(resource.Object) string {
	out := map[string]func(resource.Object) string{}
	for _, f := range v.spec.SelectableFields {
		path := steps(f.JSONPath)
		out[strings.TrimPrefix(f.JSONPath, ".")] = func(obj resource.Object) string {
			value, found, err := unstructured.NestedFieldNoCopy(obj.(*object).Object, path...)
			if !found || err != nil || value == nil {
				return ""
			}
			return fmt.Sprint(value)
		}
	}
	return out
}

// columns are those of the definition, or the age alone.
func (v *version) columns() []resource.TableColumn {
	list := v.spec.AdditionalPrinterColumns
	if len(list) == 0 {
		list = []apiextensionsv1.CustomResourceColumnDefinition{{
			Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		}}
	}
	var out []resource.TableColumn
	for _, c := range list {
		if c.Description == "" {
			c.Description = "Custom resource definition column (in JSONPath format): " + c.JSONPath
		}
		path := jsonpath.New(c.Name).AllowMissingKeys(true)
		if path.Parse("{"+c.JSONPath+"}") != nil {
			break // as upstream: what comes after it is not shown either
		}
		var mu sync.Mutex // a path remembers where it is while it is followed
		out = append(out, resource.TableColumn{
			TableColumnDefinition: metav1.TableColumnDefinition{Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Description, Priority: c.Priority},
			Value: func(obj resource.Object) any {
				mu.Lock()
				defer mu.Unlock()
				return cell(c.Type, path, obj.(*object).Object)
			},
		})
	}
	return out
}

// cell is what a column shows; nil where there is nothing, or something of another type.
func cell(kind string, path *jsonpath.JSONPath, content map[string]any) any {
	found, err := path.FindResults(content)
	if err != nil || len(found) == 0 || len(found[0]) == 0 {
		return nil
	}
	value := found[0][0].Interface()
	switch kind {
	case "string":
		var text bytes.Buffer
		if path.PrintResults(&text, []reflect.Value{reflect.ValueOf(value)}) != nil {
			return nil
		}
		return text.String()
	case "integer":
		switch n := value.(type) {
		case int64:
			return n
		case float64:
			return int64(n)
		}
	case "number":
		switch n := value.(type) {
		case int64:
			return float64(n)
		case float64:
			return n
		}
	case "boolean":
		if b, ok := value.(bool); ok {
			return b
		}
	case "date":
		text, ok := value.(string)
		if !ok {
			return nil
		}
		var when metav1.Time
		if when.UnmarshalQueryParameter(text) != nil {
			return "<invalid>"
		}
		return show.Since(when.Time)
	}
	return nil
}

// scaling is the scale subresource over the paths of a definition.
func scaling(group string, s *apiextensionsv1.CustomResourceSubresourceScale) resource.Subresource {
	sub := scale.Subresource(group, nil, func(obj resource.Object, n int32) {
		// The path leads through maps, or validation has refused the object.
		_ = unstructured.SetNestedField(obj.(*object).Object, int64(n), steps(s.SpecReplicasPath)...)
	})
	sub.Read = func(parent resource.Object) (runtime.Object, error) {
		content := parent.(*object).Object
		replicas, found, err := unstructured.NestedInt64(content, steps(s.SpecReplicasPath)...)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("the spec replicas field %q does not exist", s.SpecReplicasPath)
		}
		current, _, err := unstructured.NestedInt64(content, steps(s.StatusReplicasPath)...)
		if err != nil {
			return nil, err
		}
		out := &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{
				Name: parent.GetName(), Namespace: parent.GetNamespace(), UID: parent.GetUID(),
				ResourceVersion: parent.GetResourceVersion(), CreationTimestamp: parent.GetCreationTimestamp(),
			},
			Spec:   autoscalingv1.ScaleSpec{Replicas: int32(replicas)},
			Status: autoscalingv1.ScaleStatus{Replicas: int32(current)},
		}
		if p := s.LabelSelectorPath; p != nil && *p != "" {
			if out.Status.Selector, _, err = unstructured.NestedString(content, steps(*p)...); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return sub
}
