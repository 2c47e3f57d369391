package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"hardway/netproxy/state"
)

// FuzzPlanner makes random worlds out of a seed, changes them step by step, and compares what the steps make of a kernel with the naive
// evaluator, and with what a planner comes to that sees the last world only.
func FuzzPlanner(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		here := state.Node{Name: "n0", Zone: "z0"}
		planner, kernel, now := New(here), newModel(), world{}
		for range 6 {
			changes := g.changes(now)
			if g.IntN(8) == 0 {
				here.Zone = fmt.Sprint("z", g.IntN(2))
				changes.Node = &here
			}
			step := planner.Step(changes)
			if err := kernel.apply(step); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for _, e := range step.Add {
				if slices.Contains(step.Delete, e) {
					t.Fatalf("seed %d: a step deletes and adds the same %s", seed, e)
				}
			}
			for _, p := range g.packets() {
				if got, want := kernel.send(p).String(), now.send(here, p).String(); got != want {
					t.Fatalf("seed %d: packet %+v: got %s, want %s\nelements:\n%s", seed, p, got, want, lines(planner.Elements()))
				}
			}
		}
		fresh := New(here)
		var all state.Changes
		for name, f := range now {
			all.Services = append(all.Services, state.Change{Name: name, Facts: f})
		}
		fresh.Step(all)
		if got, want := lines(planner.Elements()), lines(fresh.Elements()); got != want {
			t.Fatalf("seed %d: by steps:\n%s\nat once:\n%s", seed, got, want)
		}
		if got, want := fmt.Sprint(planner.Chains()), fmt.Sprint(fresh.Chains()); got != want {
			t.Fatalf("seed %d: chains by steps %s, at once %s", seed, got, want)
		}
		if again := fresh.Step(all); !again.Empty() || len(again.Flows) > 0 {
			t.Fatalf("seed %d: the same world again is a step: %+v", seed, again)
		}
		var gone state.Changes
		for name := range now {
			gone.Services = append(gone.Services, state.Change{Name: name})
		}
		if err := kernel.apply(planner.Step(gone)); err != nil || len(kernel.elements)+len(kernel.chains) > 0 {
			t.Fatalf("seed %d: left when all services are gone: %v, %v", seed, kernel, err)
		}
	})
}

func lines(elements []Element) string {
	text := ""
	for _, e := range elements {
		text += e.String() + "\n"
	}
	return text
}

// generator makes small worlds in which much collides.
type generator struct{ *rand.Rand }

func (g generator) yes(oneIn int) bool { return g.IntN(oneIn) == 0 }

func (g generator) changes(now world) state.Changes {
	var out state.Changes
	for range 1 + g.IntN(3) {
		name := state.Name{Namespace: "ns", Name: fmt.Sprint("s", g.IntN(4))}
		facts := state.Facts{}
		if !g.yes(5) {
			facts = g.facts(name)
		}
		now[name] = facts
		out.Services = append(out.Services, state.Change{Name: name, Facts: facts})
	}
	return out
}

func (g generator) facts(name state.Name) state.Facts {
	s := &state.Service{Name: name, Created: time.Unix(int64(g.IntN(2)), 0), InternalLocal: g.yes(4), ExternalLocal: g.yes(3), PreferSameNode: g.yes(4),
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 32, 0, byte(g.IntN(4))})}}
	if g.yes(3) {
		s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr("fd00::1"))
	}
	if g.yes(3) {
		s.ExternalIPs = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(g.IntN(2))})}
		if g.yes(2) {
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")}
		}
	}
	if g.yes(4) {
		s.Affinity = time.Duration(1+g.IntN(2)) * time.Hour
	}
	for i := range 1 + g.IntN(2) {
		p := state.Port{Name: fmt.Sprint("p", i), Protocol: []state.Protocol{state.TCP, state.UDP}[i], Port: 80}
		if g.yes(2) {
			p.NodePort = uint16(30000 + g.IntN(2))
		}
		s.Ports = append(s.Ports, p)
	}
	facts := state.Facts{Service: s}
	for range g.IntN(3) {
		slice := state.Slice{Ports: []state.SlicePort{{Name: "p0", Protocol: state.TCP, Port: 8080}}}
		if g.yes(2) {
			slice.Ports = append(slice.Ports, state.SlicePort{Name: "p1", Protocol: state.UDP, Port: 8053})
		}
		for range g.IntN(4) {
			slice.Endpoints = append(slice.Endpoints, g.endpoint())
		}
		facts.Slices = append(facts.Slices, slice)
	}
	return facts
}

func (g generator) endpoint() state.Endpoint {
	e := state.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 200, 0, byte(g.IntN(6))}), Node: fmt.Sprint("n", g.IntN(2)), Ready: !g.yes(3)}
	if g.yes(4) {
		e.Addr = netip.AddrFrom16([16]byte{0xfd, 15: byte(g.IntN(4))})
	}
	e.Serving = e.Ready || g.yes(2)
	e.Terminating = !e.Ready && g.yes(2)
	if g.yes(2) {
		e.ForZones = []string{fmt.Sprint("z", g.IntN(2))}
	}
	if g.yes(3) {
		e.ForNodes = []string{e.Node}
	}
	return e
}

// packets covers every address that the worlds use, from everywhere.
func (g generator) packets() []packet {
	var out []packet
	to := []netip.Addr{netip.MustParseAddr("192.168.77.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("203.0.113.0"), netip.MustParseAddr("203.0.113.1")}
	for i := range byte(4) {
		to = append(to, netip.AddrFrom4([4]byte{10, 32, 0, i}))
	}
	for _, a := range to {
		for _, proto := range []state.Protocol{state.TCP, state.UDP} {
			for _, port := range []uint16{80, 30000, 30001} {
				for from, sources := range map[client][]string{pod: {"10.200.0.1"}, node: {"192.168.77.1"}, outside: {"192.168.0.9", "198.51.100.1"}} {
					for _, s := range sources {
						out = append(out, packet{from, netip.MustParseAddr(s), a, a == to[0], proto, port})
					}
				}
			}
		}
	}
	return out
}

// TestCostOfChange holds the promise that a step is as large as its change, whatever the number of services.
func TestCostOfChange(t *testing.T) {
	planner := New(state.Node{Name: "n0"})
	facts := func(i, endpoints int) state.Change {
		name := state.Name{Namespace: "ns", Name: fmt.Sprint(i)}
		s := &state.Service{Name: name, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 32, byte(i >> 8), byte(i)})}, Ports: []state.Port{{Protocol: state.TCP, Port: 80}}}
		slice := state.Slice{Ports: []state.SlicePort{{Protocol: state.TCP, Port: 8080}}}
		for j := range endpoints {
			slice.Endpoints = append(slice.Endpoints, state.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(100 + j), byte(i >> 8), byte(i)}), Node: "n1", Ready: true})
		}
		return state.Change{Name: name, Facts: state.Facts{Service: s, Slices: []state.Slice{slice}}}
	}
	for i := range 2000 {
		planner.Step(state.Changes{Services: []state.Change{facts(i, 3)}})
	}
	for _, test := range []struct {
		name           string
		change         state.Change
		added, deleted int
		chains         int
	}{
		{"one endpoint more", facts(7, 4), 2, 1, 1},                                             // the entry's shape and the endpoint; vips-4 is new
		{"one endpoint less", facts(7, 3), 1, 2, 1},                                             // and gone again
		{"a new service", facts(3000, 3), 5, 0, 0},                                              // cluster IP, entry, three endpoints
		{"a service goes", state.Change{Name: state.Name{Namespace: "ns", Name: "8"}}, 0, 5, 0}, // the same
		{"nothing", facts(9, 3), 0, 0, 0},
	} {
		s := planner.Step(state.Changes{Services: []state.Change{test.change}})
		if len(s.Add) != test.added || len(s.Delete) != test.deleted || len(s.NewChains)+len(s.OldChains) != test.chains {
			t.Errorf("%s: added %d, deleted %d, chains %d; want %d, %d, %d", test.name, len(s.Add), len(s.Delete), len(s.NewChains)+len(s.OldChains),
				test.added, test.deleted, test.chains)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	planner := New(state.Node{Name: "n0"})
	g := generator{rand.New(rand.NewPCG(1, 1))}
	name := state.Name{Namespace: "ns", Name: "s"}
	facts := []state.Facts{g.facts(name), g.facts(name)}
	i := 0
	for b.Loop() {
		planner.Step(state.Changes{Services: []state.Change{{Name: name, Facts: facts[i%2]}}})
		i++
	}
}
