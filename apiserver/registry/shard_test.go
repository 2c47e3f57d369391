package registry

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/etcd"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// A kind can lie in an etcd of its own: its objects are there and nowhere else, and the others are not.
func TestShards(t *testing.T) {
	var stores []*store.Store
	for range 2 {
		e, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir() + "/etcd"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Stop)
		stores = append(stores, store.New(e.Client(), store.Options{Revision: e.Revision()}))
	}
	s := NewSet(Options{Kinds: []*resource.Kind{configMaps, pods}, Store: stores[0], StoreOf: func(gr schema.GroupResource) *store.Store {
		if gr.Resource == "pods" {
			return stores[1]
		}
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }() //nolint:errcheck // ends with ctx
	t.Cleanup(func() { cancel(); <-done })
	if err := s.WaitForSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for plural, obj := range map[string]resource.Object{
		"configmaps": &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x"}},
		"pods":       &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x"}},
	} {
		r := s.For(schema.GroupResource{Resource: plural})
		if _, _, err := r.Create(t.Context(), obj, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Get(t.Context(), "default", "x", ""); err != nil {
			t.Error(err)
		}
		for i, st := range stores {
			_, _, err := st.Get(t.Context(), st.Prefix(plural)+"default/x")
			if there, want := err == nil, (i == 1) == (plural == "pods"); there != want {
				t.Errorf("%s in store %d: %t, want %t", plural, i, there, want)
			}
		}
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}
