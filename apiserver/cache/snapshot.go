package cache

import (
	"fmt"
	"iter"
	"sort"
	"strings"

	"github.com/tidwall/btree"
)

// Snapshot is all objects of a kind at a revision, ordered by key. It never changes.
type Snapshot struct {
	// Rev is the revision that the snapshot shows.
	Rev    int64
	prefix string
	tree   *btree.BTreeG[*Item]
	// damaged are the keys whose values cannot be decoded, with the reason.
	damaged map[string]error
}

func newTree() *btree.BTreeG[*Item] {
	return btree.NewBTreeGOptions(func(a, b *Item) bool { return a.Key < b.Key }, btree.Options{NoLocks: true})
}

// Get finds an object. An error says that it is there but damaged.
func (s *Snapshot) Get(namespace, name string) (*Item, error) {
	key := s.Key(namespace, name)
	it, _ := s.tree.Get(&Item{Key: key})
	if it == nil && s.damaged[key] != nil {
		return nil, s.damaged[key]
	}
	return it, nil
}

// Key is the storage key of an object; namespace is empty for kinds outside namespaces.
func (s *Snapshot) Key(namespace, name string) string { return key(s.prefix, namespace, name) }

func key(prefix, namespace, name string) string {
	if namespace == "" {
		return prefix + name
	}
	return strings.Join([]string{prefix, namespace, "/", name}, "")
}

// Len is the number of objects.
func (s *Snapshot) Len() int { return s.tree.Len() }

// All yields the objects of a selection with keys from a key on (empty: the first).
func (s *Snapshot) All(sel *Selection, from string) iter.Seq[*Item] {
	scope := sel.scope(s.prefix)
	return func(yield func(*Item) bool) {
		if sel.Name != "" && (sel.Namespace != "" || !s.nested()) {
			it, _ := s.tree.Get(&Item{Key: scope + sel.Name})
			if it != nil && it.Key >= from && sel.Matches(it) {
				yield(it)
			}
			return
		}
		s.tree.Ascend(&Item{Key: max(from, scope)}, func(it *Item) bool {
			if !strings.HasPrefix(it.Key, scope) {
				return false
			}
			return !sel.Matches(it) || yield(it)
		})
	}
}

// nested says whether the objects lie in namespaces.
func (s *Snapshot) nested() bool {
	first, ok := s.tree.Min()
	return ok && first.Namespace != ""
}

// Remaining counts the objects of the selection's namespace with keys after a key, whether selected or not.
func (s *Snapshot) Remaining(sel *Selection, after string) int64 {
	end := sel.scope(s.prefix)
	end = end[:len(end)-1] + string(rune(end[len(end)-1]+1))
	return int64(s.rank(end) - s.rank(after+"\x00"))
}

// rank is the number of keys before a key.
func (s *Snapshot) rank(key string) int {
	return sort.Search(s.tree.Len(), func(i int) bool {
		it, _ := s.tree.GetAt(i)
		return it.Key >= key
	})
}

// Damaged tells whether a selection covers an object that cannot be decoded: a list must not leave it out silently.
func (s *Snapshot) Damaged(sel *Selection) error {
	scope := sel.scope(s.prefix)
	for key, err := range s.damaged {
		if strings.HasPrefix(key, scope) && (sel.Name == "" || strings.HasSuffix(key, "/"+sel.Name)) {
			return fmt.Errorf("the stored object %s is damaged: %w", key, err)
		}
	}
	return nil
}
