package bootstrap

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/allocate"
	"hardway/apiserver/etcd"
	"hardway/apiserver/kinds"
	"hardway/apiserver/registry"
	"hardway/apiserver/store"
)

// server is the storage of one apiserver, with the real kinds.
type server struct {
	*registry.Set
	boot *Bootstrap
	stop func()
}

func start(t *testing.T, e *etcd.Server, log *zap.Logger, address string) *server {
	t.Helper()
	st := store.New(e.Client(), store.Options{Revision: e.Revision()})
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.32.0.0/24")}
	services := schema.GroupResource{Resource: "services"}
	var alloc *allocate.Allocator
	set := registry.NewSet(registry.Options{
		Kinds: kinds.All(), Store: st, Log: log,
		Hooks: func(s *registry.Set) map[schema.GroupResource]registry.Hooks {
			var err error
			alloc, err = allocate.New(allocate.Options{
				CIDRs: cidrs, Ports: allocate.PortRange{First: 30000, Last: 32767}, Store: st, Log: log,
				Services:  s.For(services),
				Addresses: s.For(schema.GroupResource{Group: networkingv1.GroupName, Resource: "ipaddresses"}),
			})
			if err != nil {
				t.Fatal(err)
			}
			return map[schema.GroupResource]registry.Hooks{services: alloc.Hooks()}
		},
	})
	s := &server{Set: set, boot: New(Options{
		Set: set, Store: st, CIDRs: cidrs, Address: alloc.First(), Advertise: netip.MustParseAddr(address), Port: 6443, Log: log,
	})}
	feeding, endFeed := context.WithCancel(context.Background())
	booting, endBoot := context.WithCancel(context.Background())
	fed, booted := make(chan error, 1), make(chan error, 1)
	go func() { fed <- set.Run(feeding) }()
	go func() { booted <- s.boot.Run(booting) }()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		endBoot()
		if err := <-booted; err != nil {
			t.Error(err)
		}
		endFeed()
		if err := <-fed; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(s.stop)
	return s
}

// describe says in one line what there is.
func (s *server) describe(ctx context.Context) string {
	var out []string
	get := func(group, plural, namespace, name string) any {
		it, err := s.For(schema.GroupResource{Group: group, Resource: plural}).Get(ctx, namespace, name, "")
		if err != nil {
			out = append(out, plural+" "+name+" is missing")
			return nil
		}
		return it.Object
	}
	for _, name := range namespaces {
		get("", "namespaces", "", name)
	}
	if c, ok := get(networkingv1.GroupName, "servicecidrs", "", "kubernetes").(*networkingv1.ServiceCIDR); ok {
		out = append(out, fmt.Sprint(c.Spec.CIDRs, meta.IsStatusConditionTrue(c.Status.Conditions, "Ready")))
	}
	if v, ok := get("", "services", "default", "kubernetes").(*corev1.Service); ok {
		out = append(out, fmt.Sprintf("%s:%d", v.Spec.ClusterIP, v.Spec.Ports[0].Port))
	}
	if e, ok := get("", "endpoints", "default", "kubernetes").(*corev1.Endpoints); ok {
		var ips []string
		for _, sub := range e.Subsets {
			for _, a := range sub.Addresses {
				ips = append(ips, fmt.Sprintf("%s:%d", a.IP, sub.Ports[0].Port))
			}
		}
		out = append(out, fmt.Sprint("endpoints ", ips))
	}
	if e, ok := get(discoveryv1.GroupName, "endpointslices", "default", "kubernetes").(*discoveryv1.EndpointSlice); ok {
		var ips []string
		for _, ep := range e.Endpoints {
			ips = append(ips, fmt.Sprintf("%s:%d", ep.Addresses[0], *e.Ports[0].Port))
		}
		out = append(out, fmt.Sprint("slice ", ips))
	}
	return strings.Join(out, ", ")
}

func waitFor(t *testing.T, what func() string, want string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); what() != want; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("got  %s\nwant %s", what(), want)
		}
	}
}

func TestBootstrap(t *testing.T) {
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	e, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir() + "/etcd", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	const rest = "[10.32.0.0/24] true, 10.32.0.1:443, endpoints [%[1]s], slice [%[1]s]"
	first := start(t, e, log, "192.0.2.1")
	state := func() string { return first.describe(t.Context()) }
	waitFor(t, state, fmt.Sprintf(rest, "192.0.2.1:6443"))
	if err := first.boot.Check(t.Context()); err != nil {
		t.Error(err)
	}
	second := start(t, e, log, "192.0.2.2")
	waitFor(t, state, fmt.Sprintf(rest, "192.0.2.1:6443 192.0.2.2:6443"))

	// Rounds that find everything in place write only the entry.
	services := first.For(schema.GroupResource{Resource: "services"})
	before, err := services.Get(t.Context(), "default", "kubernetes", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.boot.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := services.Get(t.Context(), "default", "kubernetes", "")
	if err != nil || after.Rev != before.Rev {
		t.Errorf("the service went from %d to %d, %v", before.Rev, after.Rev, err)
	}

	second.stop()
	waitFor(t, state, fmt.Sprintf(rest, "192.0.2.1:6443"))
}

// An apiserver that dies leaves the endpoints when its entry expires.
func TestEntriesHaveATimeToLive(t *testing.T) {
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	e, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir() + "/etcd", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	dead := start(t, e, log, "192.0.2.9")
	waitFor(t, func() string { return fmt.Sprint(dead.boot.Check(t.Context())) }, "<nil>")
	key := dead.boot.o.entryKey()
	waitFor(t, func() string { _, _, err := dead.boot.o.Store.Get(t.Context(), key); return fmt.Sprint(err) }, "<nil>")
	got, err := e.Client().Get(t.Context(), key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatal(err)
	}
	if got.Kvs[0].Lease == 0 {
		t.Error("the entry has no time to live")
	}
}

func TestLoopbackIsNotPublished(t *testing.T) {
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	e, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir() + "/etcd", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	s := start(t, e, log, "127.0.0.1")
	waitFor(t, func() string { return s.describe(t.Context()) },
		"[10.32.0.0/24] true, 10.32.0.1:443, endpoints kubernetes is missing, endpointslices kubernetes is missing")
}
