package deployment

import (
	"slices"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
)

// writes remembers what this process has done until the cache shows it. It is safe for concurrent use.
type writes struct {
	sets control.Written

	mu   sync.Mutex             // guards made
	made map[types.UID][]string // by Deployment: names of ReplicaSets that it has created, or may have
}

// creating notes that a ReplicaSet is about to be created.
func (w *writes) creating(d types.UID, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.made == nil {
		w.made = map[types.UID][]string{}
	}
	if !slices.Contains(w.made[d], name) {
		w.made[d] = append(w.made[d], name)
	}
}

// late reports whether one of the ReplicaSets in the cache is older than our last write of it, or one that we made is not among them;
// exists asks the server for such a one.
func (w *writes) late(d types.UID, cached []*appsv1.ReplicaSet, exists func(name string) (bool, error)) (bool, error) {
	if slices.ContainsFunc(cached, func(rs *appsv1.ReplicaSet) bool { return w.sets.Behind(rs) }) {
		return true, nil
	}
	w.mu.Lock()
	names := slices.Clone(w.made[d])
	w.mu.Unlock()
	for _, name := range names {
		if !slices.ContainsFunc(cached, func(rs *appsv1.ReplicaSet) bool { return rs.Name == name }) {
			if there, err := exists(name); there || err != nil {
				return true, err
			}
		}
		w.seen(d, name)
	}
	return false, nil
}

func (w *writes) seen(d types.UID, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made[d] = slices.DeleteFunc(w.made[d], func(n string) bool { return n == name })
	if len(w.made[d]) == 0 {
		delete(w.made, d)
	}
}

// forget drops a Deployment that is gone.
func (w *writes) forget(d types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.made, d)
}
