package apply

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"hardway/apiserver/resource"
)

// Manager keeps metadata.managedFields of one kind, as written through one version and subresource.
type Manager struct {
	kind   *resource.Kind
	fields *managedfields.FieldManager
	recall *recall // nil where objects are converted
}

// NewManager makes the manager of a kind. GVK is the version that is served, sub the subresource or "".
func NewManager(types *Types, kind *resource.Kind, gvk schema.GroupVersionKind, sub string) (*Manager, error) {
	if kind.Form != nil {
		return newCustom(kind, sub)
	}
	c := &converter{kind}
	f, err := managedfields.NewDefaultFieldManager(types, c, c, c, gvk, kind.GVK().GroupVersion(), sub, resets(kind, gvk, sub))
	if err != nil {
		return nil, fmt.Errorf("keep track of the fields of %s: %w", gvk, err)
	}
	m := &Manager{kind: kind, fields: f}
	if gvk == kind.GVK() {
		m.recall = newRecall(gvk, sub, left(kind, sub))
	}
	return m, nil
}

// resets are the fields that a write leaves alone, so that nobody comes to own them by sending them: the status of a
// write to the object, all but the status of a write to the status.
func resets(kind *resource.Kind, gvk schema.GroupVersionKind, sub string) map[fieldpath.APIVersion]fieldpath.Filter {
	set := left(kind, sub)
	if set == nil {
		return nil
	}
	filter := fieldpath.NewExcludeSetFilter(set)
	filters := map[fieldpath.APIVersion]fieldpath.Filter{
		fieldpath.APIVersion(gvk.GroupVersion().String()):        filter,
		fieldpath.APIVersion(kind.GVK().GroupVersion().String()): filter,
	}
	for _, v := range kind.Versions {
		filters[fieldpath.APIVersion(schema.GroupVersion{Group: v.Names.Group, Version: v.Names.Version}.String())] = filter
	}
	return filters
}

// left is what a write leaves alone, as a set; nil when it is nothing.
func left(kind *resource.Kind, sub string) *fieldpath.Set {
	switch {
	case !kind.HasStatus:
		return nil
	case sub == "":
		return fieldpath.NewSet(fieldpath.MakePathOrDie("status"))
	case sub == "status":
		return fieldpath.NewSet(
			fieldpath.MakePathOrDie("spec"), fieldpath.MakePathOrDie("metadata", "labels"),
			fieldpath.MakePathOrDie("metadata", "deletionTimestamp"), fieldpath.MakePathOrDie("metadata", "ownerReferences"),
		)
	}
	return nil
}

// Update notes in obj's managedFields what the manager changed against live, which is an empty object for a create. It
// changes obj, and never fails: on a trouble with the fields' account the object goes without one.
func (m *Manager) Update(live, obj resource.Object, manager string) resource.Object {
	shape, known := "", false
	if m.recall != nil {
		// An object that comes to be by an update has a name beforehand, which the library may see.
		switch isNew := live.GetUID() == "" && live.GetName() == ""; {
		case !isNew:
			known = m.recall.update(live, obj, manager)
		case obj.GetManagedFields() == nil:
			shape, known = m.recall.create(obj, manager)
		}
	}
	if known {
		return obj
	}
	out, ok := m.fields.UpdateNoErrors(live, obj, manager).(resource.Object)
	if !ok {
		return obj
	}
	if m.recall != nil {
		m.recall.learn(shape, out)
	}
	return KeepTimes(live, out)
}

// Apply merges a server-side apply into live, which is an empty object when there is none yet. The result is a new
// object. Errors are StatusErrors where the user did something wrong: 409 with the conflicts, 400.
func (m *Manager) Apply(live resource.Object, patch *unstructured.Unstructured, manager string, force bool) (resource.Object, error) {
	merged, err := m.fields.Apply(live, patch, manager, force)
	if err != nil {
		return nil, err
	}
	out, ok := merged.(resource.Object)
	if !ok {
		return nil, fmt.Errorf("an apply of %s gave a %T", m.kind.GVK(), merged)
	}
	return KeepTimes(live, out), nil
}

// KeepTimes takes over old's managedFields when obj differs from old in nothing but their times, so that a write that
// changes nothing writes nothing.
func KeepTimes(old, obj resource.Object) resource.Object {
	was, is := old.GetManagedFields(), obj.GetManagedFields()
	if old.GetUID() == "" || !slices.EqualFunc(was, is, sameButTime) {
		return obj
	}
	obj.SetManagedFields(was)
	if equality.Semantic.DeepEqual(old, obj) {
		return obj
	}
	obj.SetManagedFields(is)
	return obj
}

func sameButTime(a, b metav1.ManagedFieldsEntry) bool {
	return a.Manager == b.Manager && a.Operation == b.Operation && a.APIVersion == b.APIVersion && a.FieldsType == b.FieldsType &&
		a.Subresource == b.Subresource && reflect.DeepEqual(a.FieldsV1, b.FieldsV1)
}

// ManagerName is the name under which a request's changes are noted: the one it gives, or its user agent's first word.
func ManagerName(given, userAgent string) string {
	if given != "" {
		return given
	}
	word, _, _ := strings.Cut(userAgent, "/")
	var name strings.Builder
	for _, r := range word {
		if !unicode.IsPrint(r) {
			continue
		}
		if name.Len()+utf8.RuneLen(r) > validation.FieldManagerMaxLength {
			break
		}
		name.WriteRune(r)
	}
	return name.String()
}

// converter turns objects of one kind into its other versions, for the library.
type converter struct{ kind *resource.Kind }

var (
	_ runtime.ObjectConvertor = (*converter)(nil)
	_ runtime.ObjectDefaulter = (*converter)(nil)
	_ runtime.ObjectCreater   = (*converter)(nil)
)

// Default fills what was left out, in the stored version.
func (c *converter) Default(obj runtime.Object) {
	if o, ok := obj.(resource.Object); ok && reflect.TypeOf(obj) == reflect.TypeOf(c.kind.New()) {
		c.kind.Default(o)
	}
}

// New makes an empty object.
func (c *converter) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	if gvk == c.kind.GVK() {
		return c.kind.New(), nil
	}
	if v := c.version(gvk.GroupVersion()); v != nil && v.Names.Kind == gvk.Kind {
		return v.New(), nil
	}
	return nil, runtime.NewNotRegisteredErrForKind("kinds", gvk)
}

func (c *converter) version(gv schema.GroupVersion) *resource.Version {
	for i := range c.kind.Versions {
		if v := &c.kind.Versions[i]; v.Names.Group == gv.Group && v.Names.Version == gv.Version {
			return v
		}
	}
	return nil
}

// ConvertToVersion returns the object in the version that target wants, with apiVersion and kind set. A typed object
// that is in that version already is returned itself.
func (c *converter) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	kinds := []schema.GroupVersionKind{c.kind.GVK()}
	for _, v := range c.kind.Versions {
		kinds = append(kinds, schema.GroupVersionKind{Group: v.Names.Group, Version: v.Names.Version, Kind: v.Names.Kind})
	}
	var wish schema.GroupVersionKind
	found := false
	for _, k := range kinds {
		if got, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{k}); ok && got == k {
			wish, found = k, true
			break
		}
	}
	if !found {
		return nil, runtime.NewNotRegisteredGVKErrForTarget("kinds", c.kind.GVK(), target)
	}
	stored, from, err := c.toStored(in)
	if err != nil {
		return nil, err
	}
	out := runtime.Object(stored)
	if wish != c.kind.GVK() {
		if out, err = c.version(wish.GroupVersion()).FromStored(stored); err != nil {
			return nil, fmt.Errorf("convert %s to %s: %w", from, wish, err)
		}
	}
	out.GetObjectKind().SetGroupVersionKind(wish)
	return out, nil
}

// toStored returns the object in the stored version, and which version it was in.
func (c *converter) toStored(in runtime.Object) (resource.Object, schema.GroupVersionKind, error) {
	object := in
	gvk := in.GetObjectKind().GroupVersionKind()
	if u, ok := in.(*unstructured.Unstructured); ok {
		obj, err := c.New(gvk)
		if err != nil {
			return nil, gvk, err
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, obj); err != nil {
			return nil, gvk, err
		}
		object = obj
	}
	if reflect.TypeOf(object) == reflect.TypeOf(c.kind.New()) {
		return object.(resource.Object), c.kind.GVK(), nil
	}
	for _, v := range c.kind.Versions {
		if reflect.TypeOf(v.New()) == reflect.TypeOf(object) {
			stored, err := v.ToStorage(object)
			return stored, schema.GroupVersionKind{Group: v.Names.Group, Version: v.Names.Version, Kind: v.Names.Kind}, err
		}
	}
	return nil, gvk, runtime.NewNotRegisteredErrForType("kinds", reflect.TypeOf(object))
}

// Convert is part of the library's interface and not used by it.
func (c *converter) Convert(in, out, _ any) error {
	return fmt.Errorf("convert %T into %T: only ConvertToVersion is known", in, out)
}

// ConvertFieldLabel is part of the library's interface and not used by it.
func (c *converter) ConvertFieldLabel(gvk schema.GroupVersionKind, label, _ string) (string, string, error) {
	return "", "", fmt.Errorf("field %s of %s is not selectable here", label, gvk)
}
