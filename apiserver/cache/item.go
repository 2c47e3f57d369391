package cache

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// Item is one version of one object. It never changes: readers share Object and must not write to it.
type Item struct {
	Key       string // storage key, such as /registry/pods/default/web
	Namespace string
	Name      string
	Rev       int64 // the revision that wrote it; Object's resourceVersion says the same
	// Object has apiVersion and kind set, to the storage version's.
	Object resource.Object
	// Plain is the stored form, as a registry compares it with what it would write.
	Plain []byte
	// Stale says that the stored form is out of date, though it says the same: a write should renew it.
	Stale bool

	body []byte // protobuf encoding without resourceVersion, within Plain; nil: encode Object
	memo *memo
	// encodings are added, never changed; a sweep may take them all away.
	encodings atomic.Pointer[encoding]
}

// NewItem opens and decodes a stored value whose key begins with the kind's prefix. The result belongs to no cache, so
// it remembers no encodings.
func NewItem(ctx context.Context, codec *store.Codec, prefix string, kv store.KV) (*Item, error) {
	plain, stale, err := codec.Open(ctx, kv.Key, kv.Value)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", kv.Key, err)
	}
	d, err := codec.Decode(ctx, plain, kv.Rev)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kv.Key, err)
	}
	namespace, name, found := strings.Cut(kv.Key[len(prefix):], "/")
	if !found {
		namespace, name = "", namespace
	}
	// One copy of the strings that every object repeats.
	d.Object.SetName(name)
	d.Object.SetNamespace(namespace)
	return &Item{
		Key: kv.Key, Namespace: namespace, Name: name, Rev: kv.Rev,
		Object: d.Object, Plain: plain, Stale: stale, body: d.Body,
	}, nil
}

// at returns the item as it was, with another revision: what a deletion shows.
func (it *Item) at(rev int64) *Item {
	obj := shallow(it.Object)
	obj.SetResourceVersion(strconv.FormatInt(rev, 10))
	return &Item{
		Key: it.Key, Namespace: it.Namespace, Name: it.Name, Rev: rev,
		Object: obj, Plain: it.Plain, body: it.body, memo: it.memo,
	}
}

// shallow copies an object as far as its resourceVersion can be changed in the copy.
func shallow(obj resource.Object) resource.Object {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		out := &unstructured.Unstructured{Object: maps.Clone(u.Object)}
		if meta, ok := u.Object["metadata"].(map[string]any); ok {
			out.Object["metadata"] = maps.Clone(meta)
		}
		return out
	}
	v := reflect.New(reflect.TypeOf(obj).Elem())
	v.Elem().Set(reflect.ValueOf(obj).Elem())
	return v.Interface().(resource.Object)
}

type sizer interface {
	Size() int
	MarshalToSizedBuffer(data []byte) (int, error)
}

// ProtoSize is the number of bytes that AppendProto adds.
func (it *Item) ProtoSize() int {
	if size, ok := store.SplicedSize(it.body, it.Rev); ok {
		return size
	}
	return it.Object.(sizer).Size()
}

// AppendProto appends the object in the storage version's protobuf encoding, without an envelope, resourceVersion
// included. It copies stored bytes where it can, which costs far less than encoding.
func (it *Item) AppendProto(dst []byte) ([]byte, error) {
	if out, ok := store.AppendSpliced(dst, it.body, it.Rev); ok {
		return out, nil
	}
	m := it.Object.(sizer)
	size, old := m.Size(), len(dst)
	dst = append(dst, make([]byte, size)...)
	if _, err := m.MarshalToSizedBuffer(dst[old:]); err != nil {
		return dst[:old], err
	}
	return dst, nil
}

// encoding is one form of an item; a linked list, since there are one or two.
type encoding struct {
	mediaType string
	gv        schema.GroupVersion
	next      *encoding

	once  sync.Once
	bytes []byte
	err   error
}

// maxEncodings bounds the forms that one item remembers; further ones are encoded each time.
const maxEncodings = 4

// Encoded returns the object as enc writes it, and remembers the bytes for the next caller with the same media type
// and version. mediaType is just a name: callers that frame differently use different ones. Callers that come at the
// same time wait for the first. The bytes are shared: read only.
func (it *Item) Encoded(mediaType string, gv schema.GroupVersion, enc func(it *Item) ([]byte, error)) ([]byte, error) {
	e := it.encoding(mediaType, gv)
	if e == nil {
		return enc(it)
	}
	e.once.Do(func() {
		e.bytes, e.err = enc(it)
		it.memo.add(it, len(e.bytes))
	})
	return e.bytes, e.err
}

// encoding finds or adds the place of a form; nil when there is none to be had.
func (it *Item) encoding(mediaType string, gv schema.GroupVersion) *encoding {
	if it.memo == nil {
		return nil
	}
	for {
		head := it.encodings.Load()
		n := 0
		for e := head; e != nil; e = e.next {
			if e.mediaType == mediaType && e.gv == gv {
				return e
			}
			n++
		}
		if n >= maxEncodings {
			return nil
		}
		fresh := &encoding{mediaType: mediaType, gv: gv, next: head}
		if it.encodings.CompareAndSwap(head, fresh) {
			return fresh
		}
	}
}
