package control

import (
	"strconv"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Written remembers the version that the last write of each object brought about, so that a controller can wait until
// its cache has got there: what it decides from an older one it has decided already. The zero value is ready to use; it
// is safe for concurrent use.
type Written struct {
	mu       sync.Mutex // guards versions
	versions map[types.UID]uint64
}

// Note remembers the object as the server returned it from a write.
func (w *Written) Note(obj metav1.Object) {
	version, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.versions == nil {
		w.versions = map[types.UID]uint64{}
	}
	w.versions[obj.GetUID()] = version
}

// Behind reports whether the object is older than what was written last.
func (w *Written) Behind(obj metav1.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	written, ok := w.versions[obj.GetUID()]
	if !ok {
		return false
	}
	version, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if err == nil && version < written {
		return true
	}
	delete(w.versions, obj.GetUID())
	return false
}

// Forget drops an object that is gone.
func (w *Written) Forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.versions, uid)
}
