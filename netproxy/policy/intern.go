package policy

import "hash/fnv"

// interner gives equal things one number, for as long as somebody uses them. Numbers follow from the things, not from the order in which they
// came, so that a planner that starts again comes to those that the kernel has. 0 is never given.
type interner[T any] struct {
	byKey map[string]*interned[T]
	byID  map[uint32]*interned[T]
}

type interned[T any] struct {
	key   string
	id    uint32
	users int
	value T
}

func newInterner[T any]() interner[T] {
	return interner[T]{map[string]*interned[T]{}, map[uint32]*interned[T]{}}
}

// hold counts one more user of a thing; fresh says that it is the first.
func (n interner[T]) hold(key string) (held *interned[T], fresh bool) {
	if held = n.byKey[key]; held == nil {
		held, fresh = &interned[T]{key: key, id: n.free(key)}, true
		n.byKey[key], n.byID[held.id] = held, held
	}
	held.users++
	return held, fresh
}

func (n interner[T]) free(key string) uint32 {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(key))
	id := sum.Sum32()
	for id == 0 || n.byID[id] != nil {
		id++
	}
	return id
}

// release counts one user less; last says that the thing is gone.
func (n interner[T]) release(held *interned[T]) (last bool) {
	if held.users--; held.users > 0 {
		return false
	}
	delete(n.byKey, held.key)
	delete(n.byID, held.id)
	return true
}
