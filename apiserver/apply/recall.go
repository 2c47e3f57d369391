package apply

import (
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"hardway/apiserver/resource"
)

// What a manager remembers is bounded in number and size.
const (
	rememberShapes = 256
	rememberSets   = 256
	longestShape   = 8 << 10
	longestSet     = 16 << 10
)

// recall answers the two questions that nearly all writes ask without the library: which fields a new object has, when one
// of its shape was seen before; and who owns what after a change of nothing but scalars that the writer owns already. It
// knows only what the library has said, and leaves every other question to it.
type recall struct {
	gvk    schema.GroupVersionKind
	sub    string
	leave  *fieldpath.Set                       // what writes through this subresource leave alone
	shapes *lru.Cache[string, *metav1.FieldsV1] // nil: an object of that shape has no fields
	sets   *lru.Cache[string, *fieldpath.Set]   // by their encoding
}

func newRecall(gvk schema.GroupVersionKind, sub string, leave *fieldpath.Set) *recall {
	shapes, _ := lru.New[string, *metav1.FieldsV1](rememberShapes) // fails for a size of 0 alone
	sets, _ := lru.New[string, *fieldpath.Set](rememberSets)
	return &recall{gvk: gvk, sub: sub, leave: leave, shapes: shapes, sets: sets}
}

// create accounts for a new object, if one of its shape is known; shape is for learn.
func (r *recall) create(obj resource.Object, manager string) (shape string, ok bool) {
	var buf [1 << 10]byte
	key, err := shapeOf(buf[:0], obj)
	if err != nil || len(key) > longestShape {
		return "", false
	}
	fields, ok := r.shapes.Get(string(key))
	if !ok {
		return string(key), false
	}
	obj.GetObjectKind().SetGroupVersionKind(r.gvk)
	if fields == nil {
		obj.SetManagedFields(nil)
		return "", true
	}
	now := metav1.NewTime(time.Now().UTC())
	obj.SetManagedFields([]metav1.ManagedFieldsEntry{{
		Manager: named(manager), Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: r.gvk.GroupVersion().String(),
		Time: &now, FieldsType: "FieldsV1", FieldsV1: fields, Subresource: r.sub,
	}})
	return "", true
}

// named is what the library calls a manager without a name.
func named(manager string) string {
	if manager == "" {
		return "unknown"
	}
	return manager
}

// learn remembers what the library has said: about a new object of a shape, if shape is not empty, and which sets there are.
func (r *recall) learn(shape string, out resource.Object) {
	entries := out.GetManagedFields()
	if shape != "" && len(entries) <= 1 {
		var fields *metav1.FieldsV1
		if len(entries) == 1 {
			fields = entries[0].FieldsV1
		}
		r.shapes.Add(shape, fields)
	}
	for i := range entries {
		e := &entries[i]
		text := e.FieldsV1.GetRawString()
		if len(text) > longestSet || e.APIVersion != r.gvk.GroupVersion().String() || r.sets.Contains(text) {
			continue
		}
		set := &fieldpath.Set{}
		if set.FromJSON(strings.NewReader(text)) == nil {
			r.sets.Add(text, set)
		}
	}
}

// update accounts for a change of live into obj, if it is one of the simple ones.
func (r *recall) update(live, obj resource.Object, manager string) bool {
	entries := live.GetManagedFields()
	if sent := obj.GetManagedFields(); r.sub == "" && sent != nil && !slices.EqualFunc(sent, entries, sameEntry) {
		return false
	}
	paths, ok := changed(live, obj, r.leave)
	if !ok || len(entries) == 0 {
		return false
	}
	mine := -1
	for i := range entries {
		owns, known := r.owned(&entries[i], paths)
		switch {
		case !known:
			return false
		case r.is(&entries[i], manager):
			if mine = i; owns < len(paths) {
				return false
			}
		case owns > 0:
			return false
		}
	}
	if mine < 0 && len(paths) > 0 {
		return false
	}
	obj.GetObjectKind().SetGroupVersionKind(r.gvk)
	obj.SetManagedFields(entries)
	if len(paths) == 0 {
		return true
	}
	now := metav1.NewTime(time.Now().UTC())
	entries = slices.Clone(entries)
	entries[mine].Time = &now
	slices.SortStableFunc(entries, inOrder)
	obj.SetManagedFields(entries)
	return true
}

// owned counts which of the paths an entry owns, if it is one that the library has written for this version.
func (r *recall) owned(e *metav1.ManagedFieldsEntry, paths []fieldpath.Path) (count int, known bool) {
	if e.FieldsV1 == nil || e.FieldsType != "FieldsV1" || e.APIVersion != r.gvk.GroupVersion().String() {
		return 0, false
	}
	set, known := r.sets.Get(e.FieldsV1.GetRawString())
	if !known {
		return 0, false
	}
	for _, p := range paths {
		if set.Has(p) {
			count++
		}
	}
	return count, true
}

// is says that an entry is the one that an update by a manager writes.
func (r *recall) is(e *metav1.ManagedFieldsEntry, manager string) bool {
	return e.Manager == named(manager) && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == r.sub
}

func sameEntry(a, b metav1.ManagedFieldsEntry) bool {
	return sameButTime(a, b) && a.Time.Equal(b.Time)
}

// inOrder is the order in which the library writes entries.
func inOrder(a, b metav1.ManagedFieldsEntry) int {
	seconds := func(e metav1.ManagedFieldsEntry) int64 {
		if e.Time == nil {
			return 0
		}
		return e.Time.Unix()
	}
	if c := strings.Compare(string(a.Operation), string(b.Operation)); c != 0 {
		return c
	}
	if c := int(seconds(a) - seconds(b)); c != 0 {
		return c
	}
	if c := strings.Compare(a.Manager, b.Manager); c != 0 {
		return c
	}
	if c := strings.Compare(a.APIVersion, b.APIVersion); c != 0 {
		return c
	}
	return strings.Compare(a.Subresource, b.Subresource)
}
