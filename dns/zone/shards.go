package zone

import (
	"hash/maphash"
	"maps"
)

// shardCount bounds what a change copies: one part in so many of the map.
const shardCount = 512

// seed is one for all maps, so that shards can be shared between versions.
var seed = maphash.MakeSeed()

// shards is an immutable map. A changed version shares all shards that did not change.
type shards[V any] struct {
	parts *[shardCount]map[string]V // nil: empty
	n     int
}

func shardOf(key string) uint64 { return maphash.String(seed, key) % shardCount }

func (s shards[V]) get(key string) (V, bool) {
	if s.parts == nil {
		var none V
		return none, false
	}
	v, ok := s.parts[shardOf(key)][key]
	return v, ok
}

func (s shards[V]) len() int { return s.n }

// edit starts a new version.
func (s shards[V]) edit() *editor[V] { return &editor[V]{was: s, own: map[uint64]bool{}} }

// editor collects the changes of one version: it copies a shard when it is first written to.
type editor[V any] struct {
	was   shards[V]
	parts *[shardCount]map[string]V // nil: nothing written yet
	own   map[uint64]bool
	n     int // how the number of entries changed
}

func (e *editor[V]) get(key string) (V, bool) {
	if e.parts == nil {
		return e.was.get(key)
	}
	v, ok := e.parts[shardOf(key)][key]
	return v, ok
}

func (e *editor[V]) shard(key string) map[string]V {
	if e.parts == nil {
		e.parts = new([shardCount]map[string]V)
		if e.was.parts != nil {
			*e.parts = *e.was.parts
		}
	}
	i := shardOf(key)
	if !e.own[i] {
		e.own[i] = true
		if e.parts[i] = maps.Clone(e.parts[i]); e.parts[i] == nil {
			e.parts[i] = map[string]V{}
		}
	}
	return e.parts[i]
}

func (e *editor[V]) set(key string, v V) {
	m := e.shard(key)
	before := len(m)
	m[key] = v
	e.n += len(m) - before
}

func (e *editor[V]) delete(key string) {
	if _, ok := e.get(key); ok {
		delete(e.shard(key), key)
		e.n--
	}
}

func (e *editor[V]) done() shards[V] {
	if e.parts == nil {
		return e.was
	}
	return shards[V]{e.parts, e.was.n + e.n}
}
