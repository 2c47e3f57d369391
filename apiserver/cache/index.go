package cache

import "hardway/apiserver/resource"

// index finds the watchers that a change may concern. Every watcher is in one bucket, the narrowest that its selection
// allows: one object, one value of an indexed field, one namespace, everything.
type index struct {
	buckets map[bucketKey]map[*Watcher]struct{}
	fields  map[string]func(resource.Object) string // indexed fields that somebody watches by
	users   map[string]int                          // how many watch by a field
}

type bucketKey struct{ kind, a, b string }

var everything = bucketKey{}

func bucketOf(s *Selection) bucketKey {
	switch {
	case s.Name != "" && s.Namespace != "":
		return bucketKey{"object", s.Namespace, s.Name}
	case s.Name != "":
		return bucketKey{"name", s.Name, ""}
	case s.by != nil:
		return bucketKey{"field", s.by.field, s.by.value}
	case s.Namespace != "":
		return bucketKey{"namespace", s.Namespace, ""}
	}
	return everything
}

func (x *index) add(w *Watcher) {
	if x.buckets == nil {
		x.buckets = map[bucketKey]map[*Watcher]struct{}{}
		x.fields = map[string]func(resource.Object) string{}
		x.users = map[string]int{}
	}
	b := bucketOf(w.sel)
	if x.buckets[b] == nil {
		x.buckets[b] = map[*Watcher]struct{}{}
	}
	x.buckets[b][w] = struct{}{}
	if b.kind == "field" {
		x.fields[b.a] = w.sel.by.get
		x.users[b.a]++
	}
}

func (x *index) remove(w *Watcher) {
	b := bucketOf(w.sel)
	if _, ok := x.buckets[b][w]; !ok {
		return
	}
	delete(x.buckets[b], w)
	if len(x.buckets[b]) == 0 {
		delete(x.buckets, b)
	}
	if b.kind != "field" {
		return
	}
	if x.users[b.a]--; x.users[b.a] == 0 {
		delete(x.users, b.a)
		delete(x.fields, b.a)
	}
}

// each calls f for every watcher that the change may concern, once.
func (x *index) each(c *change, f func(*Watcher)) {
	if len(x.buckets) == 0 {
		return
	}
	it := c.new
	if it == nil {
		it = c.old
	}
	x.visit(everything, f)
	if it.Namespace != "" {
		x.visit(bucketKey{"namespace", it.Namespace, ""}, f)
		x.visit(bucketKey{"object", it.Namespace, it.Name}, f)
	}
	x.visit(bucketKey{"name", it.Name, ""}, f)
	for field, get := range x.fields {
		value := get(it.Object)
		x.visit(bucketKey{"field", field, value}, f)
		if c.old != nil && c.old != it {
			if was := get(c.old.Object); was != value {
				x.visit(bucketKey{"field", field, was}, f)
			}
		}
	}
}

func (x *index) visit(b bucketKey, f func(*Watcher)) {
	for w := range x.buckets[b] {
		f(w)
	}
}

// all calls f for every watcher.
func (x *index) all(f func(*Watcher)) {
	for b := range x.buckets {
		x.visit(b, f)
	}
}
