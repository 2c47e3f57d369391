package cache

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"hardway/apiserver/resource"
)

// Selection says which objects of a kind are wanted.
type Selection struct {
	Namespace string // empty: all
	Name      string // empty: all

	labels labels.Selector // nil: all
	fields []fieldTest
	// by is the test that an index answers, nil when there is none.
	by *fieldTest
}

type fieldTest struct {
	field string
	get   func(resource.Object) string
	value string
	not   bool
}

// Select compiles selectors for a kind. Nil selectors select everything. The error names a field that the kind cannot be
// selected by, in upstream's words.
func Select(kind *resource.Kind, namespace string, l labels.Selector, f fields.Selector) (*Selection, error) {
	s := &Selection{Namespace: namespace}
	if l != nil && !l.Empty() {
		s.labels = l
	}
	if f == nil || f.Empty() {
		return s, nil
	}
	for _, r := range f.Requirements() {
		if err := s.add(kind, r); err != nil {
			return nil, err
		}
	}
	for i := range s.fields {
		if t := &s.fields[i]; !t.not && slices.Contains(kind.Indexed, t.field) {
			s.by = t
			break
		}
	}
	return s, nil
}

func (s *Selection) add(kind *resource.Kind, r fields.Requirement) error {
	t := fieldTest{field: r.Field, value: r.Value, not: r.Operator == selection.NotEquals}
	switch r.Field {
	case "metadata.name":
		if !t.not && s.Name == "" && r.Value != "" {
			s.Name = r.Value
			return nil
		}
		t.get = resource.Object.GetName
	case "metadata.namespace":
		if !t.not && s.Namespace == "" && kind.Scope == resource.Namespaced && r.Value != "" {
			s.Namespace = r.Value
			return nil
		}
		t.get = resource.Object.GetNamespace
	default:
		t.get = kind.Fields[r.Field]
	}
	switch {
	case t.get != nil:
		s.fields = append(s.fields, t)
		return nil
	case len(kind.Fields) == 0:
		return fmt.Errorf("%q is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", r.Field)
	}
	return fmt.Errorf("field label not supported: %s", r.Field)
}

// All says that nothing but the namespace selects.
func (s *Selection) All() bool { return s.Name == "" && s.labels == nil && len(s.fields) == 0 }

// Matches says whether an item is wanted.
func (s *Selection) Matches(it *Item) bool {
	if s.Namespace != "" && s.Namespace != it.Namespace || s.Name != "" && s.Name != it.Name {
		return false
	}
	for i := range s.fields {
		if t := &s.fields[i]; (t.get(it.Object) == t.value) == t.not {
			return false
		}
	}
	return s.labels == nil || s.labels.Matches(labels.Set(it.Object.GetLabels()))
}

// scope is the prefix of the keys that can match, below the kind's.
func (s *Selection) scope(prefix string) string {
	if s.Namespace == "" {
		return prefix
	}
	return strings.Join([]string{prefix, s.Namespace, "/"}, "")
}
