package registry

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/etcd"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

func benchWorld(b *testing.B) *Set {
	b.Helper()
	server, err := etcd.Start(b.Context(), etcd.Options{DataDir: b.TempDir() + "/etcd"})
	if err != nil {
		b.Fatal(err)
	}
	st := store.New(server.Client(), store.Options{Revision: server.Revision()})
	set := NewSet(Options{Kinds: []*resource.Kind{configMaps, pods}, Store: st})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- set.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // how it ended does not matter here
		server.Stop()
	})
	if err := set.WaitForSync(b.Context()); err != nil {
		b.Fatal(err)
	}
	return set
}

var kilobyte = strings.Repeat("x", 1024)

func BenchmarkCreate(b *testing.B) {
	for _, parallel := range []int{1, 16} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			r := benchWorld(b).For(configMaps.GroupResource())
			var n atomic.Int64
			b.SetParallelism(max(1, parallel/2))
			b.ReportAllocs()
			b.ResetTimer()
			run := func() bool {
				_, _, err := r.Create(b.Context(), configMap("default", fmt.Sprint("c", n.Add(1)), "data", kilobyte), nil)
				if err != nil {
					b.Error(err)
				}
				return err == nil
			}
			if parallel == 1 {
				for b.Loop() {
					run()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() && run() {
				}
			})
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	r := benchWorld(b).For(configMaps.GroupResource())
	if _, _, err := r.Create(b.Context(), configMap("default", "c", "data", kilobyte), nil); err != nil {
		b.Fatal(err)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		_, _, _, err := r.Update(b.Context(), "default", "c", "", func(current resource.Object) (resource.Object, error) {
			current.(*corev1.ConfigMap).Data["n"] = fmt.Sprint(i)
			return current, nil
		}, nil, false)
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	r := benchWorld(b).For(configMaps.GroupResource())
	if _, _, err := r.Create(b.Context(), configMap("default", "c", "data", kilobyte), nil); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Get(b.Context(), "default", "c", ""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	r := benchWorld(b).For(pods.GroupResource())
	const n = 2000
	for i := range n {
		if _, _, err := r.Create(b.Context(), pod("default", fmt.Sprint("p", i), ""), nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	buf := make([]byte, 0, 1<<20)
	for b.Loop() {
		l, err := r.List(b.Context(), Query{})
		if err != nil || len(l.Items) != n {
			b.Fatal(err)
		}
		buf = buf[:0]
		for _, it := range l.Items {
			if buf, err = it.AppendProto(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
}
