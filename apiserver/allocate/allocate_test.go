package allocate

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/etcd"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/networking"
	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// world is one or several apiservers' storage on one etcd.
type world struct {
	t      *testing.T
	etcd   *etcd.Server
	server []server
}

type server struct {
	*registry.Set
	alloc *Allocator
}

func newWorld(t *testing.T, servers int, cidr, ports string) *world {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	e, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir() + "/etcd", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, etcd: e}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range servers {
		s := newServer(t, e, cidr, ports, log)
		w.server = append(w.server, s)
		running.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		if err := s.WaitForSync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { cancel(); running.Wait(); e.Stop() })
	return w
}

func newServer(t *testing.T, e *etcd.Server, cidr, ports string, log *zap.Logger) server {
	t.Helper()
	r, err := ParsePortRange(ports)
	if err != nil {
		t.Fatal(err)
	}
	st := store.New(e.Client(), store.Options{Revision: e.Revision()})
	var s server
	s.Set = registry.NewSet(registry.Options{
		Kinds: []*resource.Kind{core.Service, networking.IPAddress, networking.ServiceCIDR}, Store: st, Log: log,
		Hooks: func(set *registry.Set) map[schema.GroupResource]registry.Hooks {
			s.alloc, err = New(Options{
				CIDRs: []netip.Prefix{netip.MustParsePrefix(cidr)}, Ports: r, Store: st, Log: log,
				Services: set.For(core.Service.GroupResource()), Addresses: set.For(networking.IPAddress.GroupResource()),
				Ranges: set.For(networking.ServiceCIDR.GroupResource()),
			})
			if err != nil {
				t.Fatal(err)
			}
			return map[schema.GroupResource]registry.Hooks{core.Service.GroupResource(): s.alloc.Hooks()}
		},
	})
	return s
}

func (s server) services() *registry.Registry { return s.For(core.Service.GroupResource()) }

func (s server) create(t *testing.T, svc *corev1.Service) *corev1.Service {
	t.Helper()
	out, err := s.try(t, svc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s server) try(t *testing.T, svc *corev1.Service) (*corev1.Service, error) {
	core.Service.Default(svc)
	out, _, err := s.services().Create(t.Context(), svc, nil)
	if err != nil {
		return nil, err
	}
	return out.(*corev1.Service), nil
}

func (s server) change(t *testing.T, name string, edit func(*corev1.Service)) (*corev1.Service, error) {
	out, _, _, err := s.services().Update(t.Context(), "default", name, "", func(current resource.Object) (resource.Object, error) {
		edit(current.(*corev1.Service))
		return current, nil
	}, nil, false)
	if err != nil {
		return nil, err
	}
	return out.(*corev1.Service), nil
}

// addresses are the claimed ones and who has them.
func (s server) addresses(t *testing.T) map[string]string {
	t.Helper()
	l, err := s.alloc.o.Addresses.List(t.Context(), registry.Query{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, it := range l.Items {
		out[it.Name] = networking.IPAddress.Columns[0].Value(it.Object).(string)
	}
	return out
}

func (s server) portTaken(t *testing.T, port int32) bool {
	t.Helper()
	p, _, err := s.alloc.readPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p.taken(int(port))
}

func service(name string, ports ...int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	s.Spec.Selector = map[string]string{"app": name}
	for _, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", p), Port: p})
	}
	return s
}

func TestClusterIP(t *testing.T) {
	w := newWorld(t, 1, "10.32.0.0/24", "30000-32767")
	s := w.server[0]
	web := s.create(t, service("web", 80))
	ip := netip.MustParseAddr(web.Spec.ClusterIP)
	if ip.Less(netip.MustParseAddr("10.32.0.17")) || len(web.Spec.ClusterIPs) != 1 || web.Spec.ClusterIPs[0] != ip.String() {
		t.Errorf("addresses: %s %v", ip, web.Spec.ClusterIPs)
	}
	if *web.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack || web.Spec.IPFamilies[0] != corev1.IPv4Protocol {
		t.Errorf("families: %v %v", *web.Spec.IPFamilyPolicy, web.Spec.IPFamilies)
	}
	if got := s.addresses(t)[ip.String()]; got != "services/default/web" {
		t.Errorf("the address belongs to %q", got)
	}

	none := service("none", 80)
	none.Spec.ClusterIP = corev1.ClusterIPNone
	if out := s.create(t, none); out.Spec.ClusterIPs[0] != "None" || len(s.addresses(t)) != 1 {
		t.Errorf("headless: %+v", out.Spec)
	}
	named := service("dns", 53)
	named.Spec.ClusterIP = "10.32.0.10"
	if out := s.create(t, named); out.Spec.ClusterIPs[0] != "10.32.0.10" {
		t.Errorf("named: %v", out.Spec.ClusterIPs)
	}
	if _, _, err := s.services().Delete(t.Context(), "default", "web", nil); err != nil {
		t.Fatal(err)
	}
	if got := s.addresses(t); len(got) != 1 || got["10.32.0.10"] == "" {
		t.Errorf("after deletion: %v", got)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, 1, "10.32.0.0/24", "30000-32767")
	s := w.server[0]
	first := service("first", 80)
	first.Spec.ClusterIP, first.Spec.Type = "10.32.0.10", corev1.ServiceTypeNodePort
	first.Spec.Ports[0].NodePort = 30080
	s.create(t, first)
	ip := func(ip string) func(*corev1.Service) { return func(s *corev1.Service) { s.Spec.ClusterIP = ip } }
	port := func(p int32) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, p }
	}
	for _, row := range []struct {
		name string
		edit func(*corev1.Service)
		text string
	}{
		{"address taken", ip("10.32.0.10"), "failed to allocate IP 10.32.0.10: provided IP is already allocated"},
		{"address outside", ip("10.33.0.1"), "the provided IP (10.33.0.1) is not in the valid range. The range of valid IPs is 10.32.0.0/24"},
		{"not an address", ip("x"), "must be a valid IP address"},
		{"other family", ip("fd00::1"), "IPv6 is not configured on this cluster"},
		{"port taken", port(30080), "provided port is already allocated"},
		{"port outside", port(80), "provided port is not in the valid range. The range of valid ports is 30000-32767"},
		{"the kind's rule", func(s *corev1.Service) { s.Spec.Ports[0].Port = 0 }, "spec.ports[0].port: Invalid value: 0"},
		{"dual stack", func(s *corev1.Service) {
			p := corev1.IPFamilyPolicyRequireDualStack
			s.Spec.IPFamilyPolicy = &p
		}, "this cluster is not configured for dual-stack services"},
	} {
		t.Run(row.name, func(t *testing.T) {
			svc := service("second", 80)
			row.edit(svc)
			_, err := s.try(t, svc)
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), row.text) {
				t.Errorf("got %v\nwant %s", err, row.text)
			}
		})
	}
	if got := s.addresses(t); len(got) != 1 {
		t.Errorf("refused services kept addresses: %v", got)
	}
	p, _, err := s.alloc.readPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.set(30080, false)
	if p.bits.Sign() != 0 {
		t.Errorf("refused services kept ports: %x", p.bits)
	}
}

// TestAddedRange: a Service gets an address of a ServiceCIDR that is ready, by name or when the configured range is full.
func TestAddedRange(t *testing.T) {
	s := newWorld(t, 1, "10.32.0.0/30", "30000-30100").server[0]
	asked := service("asked", 80)
	asked.Spec.ClusterIP = "10.99.0.3"
	if _, err := s.try(t, asked.DeepCopy()); err == nil {
		t.Fatal("an address of no range was given")
	}
	added := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.99.0.0/28"}}}
	ranges := s.For(networking.ServiceCIDR.GroupResource())
	if _, _, err := ranges.Create(t.Context(), added, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.try(t, asked.DeepCopy()); err == nil {
		t.Fatal("an address of a range that is not ready was given")
	}
	if _, _, _, err := ranges.Update(t.Context(), "", "more", "status", func(current resource.Object) (resource.Object, error) {
		current.(*networkingv1.ServiceCIDR).Status.Conditions = []metav1.Condition{{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue}}
		return current, nil
	}, nil, false); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(10 * time.Second); ; <-tick.C { // news of the range comes by a watch
		got, err := s.try(t, asked.DeepCopy())
		if err == nil && got.Spec.ClusterIP == asked.Spec.ClusterIP {
			break
		}
		if err == nil || time.Now().After(limit) {
			t.Fatalf("address of a range that is ready: %v, %v", got, err)
		}
	}
	for i := range 2 {
		if got := s.create(t, service(fmt.Sprint("small", i), 80)); !strings.HasPrefix(got.Spec.ClusterIP, "10.32.0.") {
			t.Error(got.Spec.ClusterIP)
		}
	}
	if got := s.create(t, service("beyond", 80)); !strings.HasPrefix(got.Spec.ClusterIP, "10.99.0.") {
		t.Error(got.Spec.ClusterIP)
	}
}

func TestDryRunClaimsNothing(t *testing.T) {
	w := newWorld(t, 1, "10.32.0.0/24", "30000-32767")
	s := w.server[0]
	svc := service("web", 80)
	svc.Spec.Type = corev1.ServiceTypeNodePort
	core.Service.Default(svc)
	out, _, err := s.services().Create(t.Context(), svc, &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Fatal(err)
	}
	shown := out.(*corev1.Service)
	if shown.Spec.ClusterIP == "" || shown.Spec.Ports[0].NodePort == 0 {
		t.Errorf("shown: %+v", shown.Spec)
	}
	if len(s.addresses(t)) != 0 || s.portTaken(t, shown.Spec.Ports[0].NodePort) {
		t.Error("something was claimed")
	}
}

func TestNodePorts(t *testing.T) {
	w := newWorld(t, 1, "10.32.0.0/24", "30000-32767")
	s := w.server[0]
	svc := service("dns", 53, 80)
	svc.Spec.Type = corev1.ServiceTypeNodePort
	svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "udp", Port: 53, Protocol: corev1.ProtocolUDP})
	out := s.create(t, svc)
	ports := out.Spec.Ports
	if ports[0].NodePort == 0 || ports[1].NodePort == 0 || ports[0].NodePort == ports[1].NodePort || ports[2].NodePort != ports[0].NodePort {
		t.Errorf("node ports: %+v", ports)
	}
	changed, err := s.change(t, "dns", func(s *corev1.Service) {
		s.Spec.Ports = s.Spec.Ports[:2]
		s.Spec.Ports[1].NodePort = 30123
	})
	if err != nil {
		t.Fatal(err)
	}
	if changed.Spec.Ports[0].NodePort != ports[0].NodePort || !s.portTaken(t, 30123) || s.portTaken(t, ports[1].NodePort) {
		t.Errorf("after a change: %+v", changed.Spec.Ports)
	}
	if changed, err = s.change(t, "dns", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }); err != nil {
		t.Fatal(err)
	}
	if changed.Spec.Ports[0].NodePort != 0 || s.portTaken(t, ports[0].NodePort) || s.portTaken(t, 30123) {
		t.Errorf("after the type changed: %+v", changed.Spec.Ports)
	}
}

func TestTypeChangesAndHealthPort(t *testing.T) {
	w := newWorld(t, 1, "10.32.0.0/24", "30000-32767")
	s := w.server[0]
	s.create(t, service("web", 80))
	local, err := s.change(t, "web", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
	})
	if err != nil {
		t.Fatal(err)
	}
	health := local.Spec.HealthCheckNodePort
	if health == 0 || !s.portTaken(t, health) || local.Spec.Ports[0].NodePort == 0 {
		t.Errorf("load balancer: %+v", local.Spec)
	}
	name, err := s.change(t, "web", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName, s.Spec.Selector = corev1.ServiceTypeExternalName, "example.com", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if name.Spec.ClusterIP != "" || len(s.addresses(t)) != 0 || s.portTaken(t, health) {
		t.Errorf("external name: %+v, addresses %v", name.Spec, s.addresses(t))
	}
	back, err := s.change(t, "web", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeClusterIP, ""
	})
	if err != nil {
		t.Fatal(err)
	}
	if back.Spec.ClusterIP == "" || len(s.addresses(t)) != 1 {
		t.Errorf("back: %+v", back.Spec)
	}
}

// Several apiservers create services at the same time until the range is full: nobody gets what another has.
func TestServersDoNotCollide(t *testing.T) {
	w := newWorld(t, 3, "10.32.0.0/27", "30000-30039")
	var mu sync.Mutex
	ips, ports := map[string]bool{}, map[int32]bool{}
	full := 0
	var wg sync.WaitGroup
	for i, s := range w.server {
		wg.Go(func() {
			for j := range 12 {
				svc := service(fmt.Sprintf("s%d-%d", i, j), 80)
				svc.Spec.Type = corev1.ServiceTypeNodePort
				out, err := s.try(t, svc)
				mu.Lock()
				switch {
				case err != nil && strings.Contains(err.Error(), "range is full"):
					full++
				case err != nil:
					t.Error(err)
				case ips[out.Spec.ClusterIP] || ports[out.Spec.Ports[0].NodePort]:
					t.Errorf("twice: %s %d", out.Spec.ClusterIP, out.Spec.Ports[0].NodePort)
				default:
					ips[out.Spec.ClusterIP], ports[out.Spec.Ports[0].NodePort] = true, true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(ips) != 30 || full != 6 {
		t.Errorf("%d services got addresses, %d found the range full", len(ips), full)
	}
}

func TestRepair(t *testing.T) {
	w := newWorld(t, 1, "10.32.0.0/24", "30000-32767")
	s := w.server[0]
	svc := service("web", 80)
	svc.Spec.Type = corev1.ServiceTypeNodePort
	web := s.create(t, svc)
	port := web.Spec.Ports[0].NodePort
	// What a server leaves behind that dies between claim and write, and what a restored backup may lack.
	lost, lostPort := netip.MustParseAddr("10.32.0.99"), int32(31999) // the service may have drawn either
	if lost.String() == web.Spec.ClusterIP {
		lost = lost.Next()
	}
	if lostPort == port {
		lostPort++
	}
	if err := s.alloc.createAddress(t.Context(), service("ghost"), lost); err != nil {
		t.Fatal(err)
	}
	err := s.alloc.changePorts(t.Context(), func(p ports) error {
		p.set(int(port), false)
		return p.claim(int(lostPort))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.alloc.o.Addresses.Delete(t.Context(), "", web.Spec.ClusterIP, nil); err != nil {
		t.Fatal(err)
	}
	r := Repair{a: s.alloc, leaks: map[any]int{}}
	for round := 1; round <= leakRounds; round++ {
		if err := r.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.addresses(t)[web.Spec.ClusterIP] == "" || !s.portTaken(t, port) {
			t.Errorf("round %d: the service's claims are not back", round)
		}
		ghost := s.addresses(t)[lost.String()] != "" && s.portTaken(t, lostPort)
		if ghost != (round < leakRounds) {
			t.Errorf("round %d: the ghost's claims are there: %v", round, ghost)
		}
	}
}
