package cache

import (
	"hash/maphash"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/resource"
)

// maxInterned bounds the table of field sets; when it is full the table begins anew, and only future objects share.
const maxInterned = 4096

// interner lets objects share their sets of managed fields, a good part of a small object: all pods of a Deployment have
// the same ones.
type interner struct {
	seed maphash.Seed

	mu    sync.Mutex
	table map[uint64]*metav1.FieldsV1
}

func newInterner() *interner {
	return &interner{seed: maphash.MakeSeed(), table: map[uint64]*metav1.FieldsV1{}}
}

// share replaces the object's field sets by equal ones that other objects have.
func (in *interner) share(obj resource.Object) {
	entries := obj.GetManagedFields()
	if len(entries) == 0 {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range entries {
		mine := entries[i].FieldsV1
		if mine == nil {
			continue
		}
		key := maphash.Bytes(in.seed, mine.GetRawBytes())
		known := in.table[key]
		if known != nil && known.Equal(*mine) {
			entries[i].FieldsV1 = known
			continue
		}
		if len(in.table) >= maxInterned {
			clear(in.table)
		}
		in.table[key] = mine
	}
}
