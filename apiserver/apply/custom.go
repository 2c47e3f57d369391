package apply

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"hardway/apiserver/openapi"
	"hardway/apiserver/resource"
)

// newCustom makes the manager of a kind without a Go type: its schema says how fields merge.
func newCustom(kind *resource.Kind, sub string) (*Manager, error) {
	gvk := kind.GVK()
	models, err := openapi.Schemas(kind)
	if err != nil {
		return nil, fmt.Errorf("schema of %s: %w", gvk, err)
	}
	types, err := managedfields.NewTypeConverter(models, kind.Form.Loose)
	if err != nil {
		return nil, fmt.Errorf("keep track of the fields of %s: %w", gvk, err)
	}
	c := &customConverter{kind}
	f, err := managedfields.NewDefaultCRDFieldManager(types, c, c, c, gvk, gvk.GroupVersion(), sub, resets(kind, gvk, sub))
	if err != nil {
		return nil, fmt.Errorf("keep track of the fields of %s: %w", gvk, err)
	}
	return &Manager{kind: kind, fields: f}, nil
}

// customConverter turns custom objects into other versions, for the library.
type customConverter struct{ kind *resource.Kind }

// Default fills what was left out.
func (c *customConverter) Default(obj runtime.Object) {
	if o, ok := obj.(resource.Object); ok && obj.GetObjectKind().GroupVersionKind() == c.kind.GVK() {
		c.kind.Default(o)
	}
}

// New makes an empty object.
func (c *customConverter) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	if gvk.GroupKind() != c.kind.GVK().GroupKind() {
		return nil, runtime.NewNotRegisteredErrForKind("kinds", gvk)
	}
	obj := c.kind.New()
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj, nil
}

// ConvertToVersion returns the object in the version that target wants.
func (c *customConverter) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	is := in.GetObjectKind().GroupVersionKind()
	to, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{is})
	if !ok {
		// The target is of the same kind in another version.
		gv, isVersion := target.(schema.GroupVersion)
		if !isVersion || gv.Group != is.Group {
			return nil, runtime.NewNotRegisteredGVKErrForTarget("kinds", is, target)
		}
		to = gv.WithKind(is.Kind)
	}
	if to.Version == is.Version {
		return in, nil
	}
	obj, isObject := in.(resource.Object)
	if !isObject {
		return nil, runtime.NewNotRegisteredErrForType("kinds", reflect.TypeOf(in))
	}
	out, err := c.kind.Form.Convert(obj, to.Version)
	if err != nil {
		return nil, err
	}
	return out.DeepCopyObject(), nil
}

// Convert is part of the library's interface and not used by it.
func (c *customConverter) Convert(in, out, _ any) error {
	return fmt.Errorf("convert %T into %T: only ConvertToVersion is known", in, out)
}

// ConvertFieldLabel is part of the library's interface and not used by it.
func (c *customConverter) ConvertFieldLabel(gvk schema.GroupVersionKind, label, _ string) (string, string, error) {
	return "", "", fmt.Errorf("field %s of %s is not selectable here", label, gvk)
}
