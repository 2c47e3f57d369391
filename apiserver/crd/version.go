package crd

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	gvkschema "k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	kjson "sigs.k8s.io/json"

	"hardway/apiserver/kinds/apiextensions"
	"hardway/apiserver/resource"
)

// object is what custom resources are in memory.
type object = unstructured.Unstructured

// version is one version of a custom kind, ready to be used.
type version struct {
	spec       apiextensionsv1.CustomResourceDefinitionVersion
	gvk        gvkschema.GroupVersionKind
	structural *schema.Structural
	loose      bool // keeps all fields, as definitions from before v1 could ask
	whole      schemavalidation.SchemaValidator
	status     schemavalidation.SchemaValidator
	rules      *cel.Validator
	all        *versions
}

// versions are all versions of a kind, served or not.
type versions struct {
	by      map[string]*version
	storage *version
	convert converter
}

// compile makes the versions of a definition.
func compile(d *apiextensionsv1.CustomResourceDefinition, convert converter) (*versions, error) {
	all := &versions{by: map[string]*version{}, convert: convert}
	for _, spec := range d.Spec.Versions {
		v := &version{
			spec: spec, all: all, loose: d.Spec.PreserveUnknownFields,
			gvk: gvkschema.GroupVersionKind{Group: d.Spec.Group, Version: spec.Name, Kind: d.Status.AcceptedNames.Kind},
		}
		if err := v.compile(); err != nil {
			return nil, fmt.Errorf("schema of version %s of %s: %w", spec.Name, d.Name, err)
		}
		all.by[spec.Name] = v
		if spec.Storage {
			all.storage = v
		}
	}
	if all.storage == nil {
		return nil, fmt.Errorf("%s has no storage version", d.Name)
	}
	return all, nil
}

func (v *version) compile() error {
	if v.spec.Schema == nil || v.spec.Schema.OpenAPIV3Schema == nil {
		v.loose = true
		v.structural = &schema.Structural{Generic: schema.Generic{Type: "object"}, Extensions: schema.Extensions{XPreserveUnknownFields: true}}
		return nil
	}
	internal, err := apiextensions.Internal(v.spec.Schema.OpenAPIV3Schema)
	if err != nil {
		return err
	}
	if v.structural, err = schema.NewStructural(internal); err != nil {
		return err
	}
	// A default that the schema itself would prune is none.
	if err := defaulting.PruneDefaults(v.structural); err != nil {
		return err
	}
	if v.whole, _, err = schemavalidation.NewSchemaValidator(internal); err != nil {
		return err
	}
	if status, ok := internal.Properties["status"]; ok {
		if v.status, _, err = schemavalidation.NewSchemaValidator(&status); err != nil {
			return err
		}
	}
	v.rules = cel.NewValidator(v.structural, true, celconfig.PerCallLimit)
	return nil
}

// read decodes what a client sent. Fields that the schema does not know are dropped and named.
func (v *version) read(data []byte) (resource.Object, []error, error) {
	u := &object{}
	trouble, err := kjson.UnmarshalStrict(data, &u.Object)
	if err != nil {
		return nil, nil, err
	}
	if u.Object == nil {
		return nil, nil, fmt.Errorf("an object is wanted, not null")
	}
	if u.GetKind() == "" {
		return nil, nil, fmt.Errorf("Object 'Kind' is missing in '%s'", shorten(data)) //nolint:staticcheck // upstream's words
	}
	if u.GroupVersionKind() != v.gvk {
		return u, nil, nil // the caller refuses it
	}
	unknown, err := v.coerce(u, true)
	for _, path := range unknown {
		trouble = append(trouble, fmt.Errorf("unknown field %q", path))
	}
	return u, trouble, err
}

// shorten shows the beginning of a body in an error.
func shorten(data []byte) string {
	const most = 200
	if len(data) > most {
		return string(data[:most]) + "..."
	}
	return string(data)
}

// coerce does to an object what decoding does for Go types: fields that are not known are dropped, and so are nulls where
// none may be. Strict refuses malformed metadata and tells the paths of what was dropped; what is stored already is
// repaired instead.
func (v *version) coerce(u *object, strict bool) (unknown []string, err error) {
	kind, apiVersion := u.GetKind(), u.GetAPIVersion()
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(u.Object, objectmeta.ObjectMetaOptions{
		DropMalformedFields: !strict, ReturnUnknownFieldPaths: strict,
	})
	if err != nil {
		return nil, err
	}
	if !v.loose {
		unknown = append(unknown, pruning.PruneWithOptions(u.Object, v.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: strict})...)
		defaulting.PruneNonNullableNullsWithoutDefaults(u.Object, v.structural)
	}
	wrong, more := objectmeta.CoerceWithOptions(nil, u.Object, v.structural, false, objectmeta.CoerceOptions{
		DropInvalidFields: !strict, ReturnUnknownFieldPaths: strict,
	})
	if wrong != nil {
		return nil, wrong
	}
	if !strict && meta != nil && meta.Generation == 0 {
		meta.Generation = 1
	}
	u.SetKind(kind)
	u.SetAPIVersion(apiVersion)
	if found {
		if err := objectmeta.SetObjectMeta(u.Object, meta); err != nil {
			return nil, err
		}
	}
	return append(unknown, more...), nil
}

// fill sets the defaults of the schema.
func (v *version) fill(obj resource.Object) {
	if u, ok := obj.(*object); ok {
		defaulting.PruneNonNullableNullsWithoutDefaults(u.Object, v.structural)
		defaulting.Default(u.Object, v.structural)
	}
}

// marshal makes the stored form: JSON in the storage version, its keys sorted, with a line break, as upstream's.
func (v *version) marshal(obj resource.Object) ([]byte, error) {
	if v != v.all.storage {
		var err error
		if obj, err = v.all.to(context.Background(), obj, v.all.storage); err != nil {
			return nil, err
		}
	}
	u, ok := obj.(*object)
	if !ok {
		return nil, fmt.Errorf("a %T is no custom resource", obj)
	}
	out, err := json.Marshal(u.Object)
	return append(out, '\n'), err
}

// unmarshal reads the stored form, whichever version it is in.
func (v *version) unmarshal(ctx context.Context, plain []byte) (resource.Object, error) {
	u := &object{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(plain, &u.Object); err != nil {
		return nil, err
	}
	if u.Object == nil {
		return nil, fmt.Errorf("null is no object")
	}
	_, name, _ := strings.Cut(u.GetAPIVersion(), "/")
	from := v.all.by[name]
	if from == nil {
		return nil, fmt.Errorf("version %q is not declared any more", u.GetAPIVersion())
	}
	if _, err := from.coerce(u, false); err != nil {
		return nil, err
	}
	from.fill(u)
	if from == v {
		return u, nil
	}
	out, err := v.all.to(ctx, u, v)
	if err != nil {
		return nil, err
	}
	v.fill(out)
	return out, nil
}

// to converts an object into a version. The result may share parts with it.
func (a *versions) to(ctx context.Context, obj resource.Object, v *version) (resource.Object, error) {
	u, ok := obj.(*object)
	if !ok {
		return nil, fmt.Errorf("a %T is no custom resource", obj)
	}
	if u.GetAPIVersion() == v.gvk.GroupVersion().String() {
		return u, nil
	}
	out, err := a.convert.convert(ctx, u, v.gvk.GroupVersion().String())
	if err != nil {
		return nil, fmt.Errorf("convert %s %s/%s to %s: %w", u.GroupVersionKind(), u.GetNamespace(), u.GetName(), v.gvk.Version, err)
	}
	if _, err := v.coerce(out, false); err != nil {
		return nil, err
	}
	return out, nil
}
