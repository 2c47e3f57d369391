package apply

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// stripped are the fields that nobody owns, by their parent: the library leaves them out of every account.
var stripped = map[string][]string{
	"":         {"apiVersion", "kind"},
	"metadata": {"name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion"},
}

// shape is what the fields of a new object depend on, as bytes: which fields, map keys and list elements there are, but not
// what they say, except within lists, whose elements are known by their values. Two objects of one type with the same
// shape have the same fields.
type shape struct {
	to  []byte
	err error
}

// shapeOf appends the shape of an object, a pointer to a struct. It fails where the object cannot be encoded.
func shapeOf(to []byte, obj any) ([]byte, error) {
	s := shape{to: to}
	s.fields(reflect.ValueOf(obj).Elem(), "", false, true)
	return s.to, s.err
}

const (
	isNull = iota
	isEmpty
	isScalar
	isOpaque
	isStruct
	isMap
	isList
)

// fields appends a struct. within says that its values count, too; meta, that some of its fields belong to nobody.
func (s *shape) fields(v reflect.Value, parent string, within, meta bool) {
	s.to = append(s.to, isStruct)
	for i, f := range value.TypeReflectEntryOf(v.Type()).OrderedFields() {
		if meta && slices.Contains(stripped[parent], f.JsonName) {
			continue
		}
		field := f.GetFrom(v)
		if f.CanOmit(field) {
			continue
		}
		s.to = binary.AppendUvarint(s.to, uint64(i+1))
		if meta && parent == "" && f.JsonName == "metadata" && field.Kind() == reflect.Struct {
			s.fields(field, "metadata", within, true)
			continue
		}
		s.value(field, within)
	}
	s.to = append(s.to, 0)
}

func (s *shape) value(v reflect.Value, within bool) {
	if opaque(v.Type()) {
		text, err := json.Marshal(v.Interface())
		if err != nil {
			s.err = err
		}
		s.to = append(s.to, isOpaque)
		s.text(string(text))
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			s.to = append(s.to, isNull)
			return
		}
		s.value(v.Elem(), within)
	case reflect.Struct:
		s.fields(v, "", within, false)
	case reflect.Map:
		s.entries(v, within)
	case reflect.Slice:
		s.elements(v, within)
	default:
		s.scalar(v, within)
	}
}

func (s *shape) entries(v reflect.Value, within bool) {
	if absent(s, v) {
		return
	}
	s.to = append(s.to, isMap)
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	s.to = binary.AppendUvarint(s.to, uint64(len(keys)))
	for _, k := range keys {
		s.text(k.String())
		s.value(v.MapIndex(k), within)
	}
}

func (s *shape) elements(v reflect.Value, within bool) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		if v.IsNil() {
			s.to = append(s.to, isNull)
			return
		}
		s.to = append(s.to, isScalar)
		if within {
			s.text(string(v.Bytes()))
		}
		return
	}
	if absent(s, v) {
		return
	}
	s.to = append(s.to, isList)
	s.to = binary.AppendUvarint(s.to, uint64(v.Len()))
	for i := range v.Len() {
		s.value(v.Index(i), true)
	}
}

// absent appends a map or list without elements.
func absent(s *shape, v reflect.Value) bool {
	switch {
	case v.IsNil():
		s.to = append(s.to, isNull)
	case v.Len() == 0:
		s.to = append(s.to, isEmpty)
	default:
		return false
	}
	return true
}

func (s *shape) scalar(v reflect.Value, within bool) {
	s.to = append(s.to, isScalar)
	if !within {
		return
	}
	switch {
	case v.Kind() == reflect.String:
		s.text(v.String())
	case v.CanInt():
		s.to = binary.AppendVarint(s.to, v.Int())
	case v.CanUint():
		s.to = binary.AppendUvarint(s.to, v.Uint())
	case v.CanFloat():
		s.to = binary.AppendUvarint(s.to, math.Float64bits(v.Float()))
	case v.Kind() == reflect.Bool:
		s.to = append(s.to, map[bool]byte{true: 1}[v.Bool()])
	default:
		s.err = &reflect.ValueError{Method: "shape", Kind: v.Kind()}
	}
}

func (s *shape) text(t string) {
	s.to = binary.AppendUvarint(s.to, uint64(len(t)))
	s.to = append(s.to, t...)
}

// opaque says that a type encodes itself.
func opaque(t reflect.Type) bool { return value.TypeReflectEntryOf(t).CanConvertToUnstructured() }

// change finds the scalars that differ between two objects of the same shape.
type change struct {
	leave *fieldpath.Set // paths that are not looked at
	path  fieldpath.Path
	paths []fieldpath.Path
}

// changed returns the paths of the scalars that differ between two objects of one type, lists apart, those that nobody
// owns apart, and those below leave apart. It is not ok if the objects differ in anything but scalars.
func changed(was, is any, leave *fieldpath.Set) (paths []fieldpath.Path, ok bool) {
	c := change{leave: leave}
	ok = c.fields(reflect.ValueOf(was).Elem(), reflect.ValueOf(is).Elem(), "", true)
	return c.paths, ok
}

func (c *change) fields(was, is reflect.Value, parent string, meta bool) bool {
	for _, f := range value.TypeReflectEntryOf(was.Type()).OrderedFields() {
		if meta && slices.Contains(stripped[parent], f.JsonName) {
			continue
		}
		a, b := f.GetFrom(was), f.GetFrom(is)
		omitted := f.CanOmit(a)
		other := f.CanOmit(b)
		if omitted && other {
			continue
		}
		name := f.JsonName
		c.path = append(c.path, fieldpath.PathElement{FieldName: &name})
		ok := meta && c.leave != nil && c.leave.Has(c.path)
		if !ok && omitted == other {
			if meta && parent == "" && name == "metadata" && a.Kind() == reflect.Struct {
				ok = c.fields(a, b, "metadata", true)
			} else {
				ok = c.value(a, b)
			}
		}
		c.path = c.path[:len(c.path)-1]
		if !ok {
			return false
		}
	}
	return true
}

func (c *change) value(was, is reflect.Value) bool {
	if opaque(was.Type()) {
		return reflect.DeepEqual(was.Interface(), is.Interface())
	}
	switch was.Kind() {
	case reflect.Pointer:
		if was.IsNil() || is.IsNil() {
			return was.IsNil() && is.IsNil()
		}
		return c.value(was.Elem(), is.Elem())
	case reflect.Struct:
		return c.fields(was, is, "", false)
	case reflect.Map:
		return c.entries(was, is)
	case reflect.Slice:
		if was.Type().Elem().Kind() == reflect.Uint8 && !was.IsNil() && !is.IsNil() {
			return c.differs(!bytes.Equal(was.Bytes(), is.Bytes()))
		}
		return reflect.DeepEqual(was.Interface(), is.Interface())
	case reflect.String:
		return c.differs(was.String() != is.String())
	case reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Float64:
		return c.differs(!was.Equal(is))
	}
	return reflect.DeepEqual(was.Interface(), is.Interface())
}

func (c *change) entries(was, is reflect.Value) bool {
	if was.IsNil() != is.IsNil() || was.Len() != is.Len() {
		return false
	}
	for entries := was.MapRange(); entries.Next(); {
		other := is.MapIndex(entries.Key())
		if !other.IsValid() {
			return false
		}
		name := entries.Key().String()
		c.path = append(c.path, fieldpath.PathElement{FieldName: &name})
		ok := c.value(entries.Value(), other)
		c.path = c.path[:len(c.path)-1]
		if !ok {
			return false
		}
	}
	return true
}

func (c *change) differs(yes bool) bool {
	if yes {
		c.paths = append(c.paths, c.path.Copy())
	}
	return true
}
