package zone

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func service(i, version int) *Service {
	return &Service{Key: Key{"ns", fmt.Sprint("s", i)}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(version), byte(i >> 8), byte(i)})}}
}

// TestUpdates changes a zone at random and compares it with a plain map; earlier zones must stay as they were.
func TestUpdates(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	type version struct {
		zone *Zone
		want map[int]int // service to the version of its address
	}
	versions := []version{{New("cluster.local."), map[int]int{}}}
	for range 60 {
		last := versions[len(versions)-1]
		next := version{want: map[int]int{}}
		maps.Copy(next.want, last.want)
		changes := Changes{Services: map[Key]*Service{}}
		for range 1 + r.IntN(20) {
			i, v := r.IntN(50), 1+r.IntN(3)
			if r.IntN(3) == 0 {
				delete(next.want, i)
				changes.Services[service(i, 0).Key] = nil
			} else {
				next.want[i] = v
				changes.Services[service(i, 0).Key] = service(i, v)
			}
		}
		next.zone = last.zone.Update(changes)
		versions = append(versions, next)
	}
	for n, v := range versions {
		if v.zone.Len() != len(v.want) {
			t.Fatalf("version %d has %d services, want %d", n, v.zone.Len(), len(v.want))
		}
		for i := range 50 {
			s, ok := v.zone.Service("ns", fmt.Sprint("s", i))
			want, wanted := v.want[i]
			if ok != wanted || ok && s.Addrs[0] != service(i, want).Addrs[0] {
				t.Fatalf("version %d, service %d: got %v, %v; want version %d, %v", n, i, s, ok, want, wanted)
			}
			for a := range 4 {
				names := v.zone.Reverse(service(i, a).Addrs[0])
				if has := len(names) == 1; has != (wanted && a == want) {
					t.Fatalf("version %d, address %v: leads to %v", n, service(i, a).Addrs[0], names)
				}
			}
		}
	}
}

func TestSharedAddress(t *testing.T) {
	shared := netip.MustParseAddr("10.200.0.5")
	headless := func(name string) *Service {
		return &Service{Key: Key{"ns", name}, Headless: true, Endpoints: []Endpoint{{Addr: shared, Host: "pod", Named: true}}}
	}
	a, b := headless("a"), headless("b")
	z := New("cluster.local").Update(Changes{Services: map[Key]*Service{a.Key: a, b.Key: b}, Namespaces: map[string]bool{"ns": true}})
	if got, want := z.Reverse(shared), []string{"pod.a.ns.svc.cluster.local.", "pod.b.ns.svc.cluster.local."}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	z = z.Update(Changes{Services: map[Key]*Service{a.Key: nil}, Namespaces: map[string]bool{"ns": false}})
	if got, want := z.Reverse(shared), []string{"pod.b.ns.svc.cluster.local."}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if z.Namespace("ns") {
		t.Error("the namespace is still there")
	}
}

func BenchmarkUpdate(b *testing.B) {
	all := Changes{Services: map[Key]*Service{}}
	for i := range 20000 {
		all.Services[service(i, 1).Key] = service(i, 1)
	}
	z := New("cluster.local").Update(all)
	one := Changes{Services: map[Key]*Service{service(7, 1).Key: service(7, 2)}}
	b.ReportAllocs()
	for b.Loop() {
		z.Update(one)
	}
}
