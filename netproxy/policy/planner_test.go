package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"hardway/netproxy/policy/reference"
	"hardway/netproxy/state"
)

// FuzzPlanner makes random worlds out of a seed, changes them step by step, and compares what the steps make of a kernel with the naive
// evaluator, and with what a planner comes to that sees the last world only.
func FuzzPlanner(f *testing.F) {
	for seed := range uint64(400) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := generator{rand.New(rand.NewPCG(seed, 2))}
		planner, kernel := New("n0"), model{}
		now := reference.New()
		for range 8 {
			if err := kernel.apply(planner.Step(g.changes(now))); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for range 60 {
				c := g.connection()
				if got, want := kernel.allows(c), now.Allows("n0", c); got != want {
					t.Fatalf("seed %d: %v: allowed %v, want %v\nelements:\n%s", seed, c, got, want, lines(planner.Elements()))
				}
			}
		}
		all := now.Changes()
		fresh := New("n0")
		fresh.Step(all)
		if got, want := lines(planner.Elements()), lines(fresh.Elements()); got != want {
			t.Fatalf("seed %d: by steps:\n%s\nat once:\n%s", seed, got, want)
		}
		if again := fresh.Step(all); !again.Empty() {
			t.Fatalf("seed %d: the same world again is a step: %v", seed, again)
		}
		for name := range all.Policies {
			all.Policies[name] = nil
		}
		if err := kernel.apply(planner.Step(state.PolicyChanges{Policies: all.Policies})); err != nil || len(kernel) > 0 {
			t.Fatalf("seed %d: left when all policies are gone: %v, %v", seed, kernel, err)
		}
		if n := len(planner.groups.byKey) + len(planner.selectors.byKey) + len(planner.classes.byKey) + len(planner.ports.byKey) + len(planner.names); n > 0 {
			t.Fatalf("seed %d: %d groups, selectors, classes, port sets and names left", seed, n)
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

func (g generator) changes(now reference.World) state.PolicyChanges {
	out := state.PolicyChanges{Policies: map[state.Name]*state.Policy{}, Pods: map[state.Name]*state.Pod{}, Namespaces: map[string]*labels.Set{}}
	for range g.IntN(3) {
		name := "ns" + fmt.Sprint(g.IntN(3))
		set := g.labels()
		out.Namespaces[name], now.Namespaces[name] = &set, set
		if g.yes(6) {
			out.Namespaces[name] = nil
			delete(now.Namespaces, name)
		}
	}
	for range g.IntN(5) {
		i := g.IntN(9)
		name := state.Name{Namespace: "ns" + fmt.Sprint(i%3), Name: fmt.Sprint("p", i)}
		p := &state.Pod{Created: time.Unix(int64(i), 0), Node: fmt.Sprint("n", g.IntN(2)), Labels: g.labels(),
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 200, 0, byte(10 + i)}), netip.MustParseAddr(fmt.Sprint("fd00::", 10+i))}}
		if !g.yes(3) {
			p.Ports = []state.PodPort{{Name: "web", Protocol: state.TCP, Port: uint16(80 + g.IntN(2))}}
		}
		if g.yes(5) {
			p = nil
			delete(now.Pods, name)
		} else {
			now.Pods[name] = p
		}
		out.Pods[name] = p
	}
	for range g.IntN(4) {
		name := state.Name{Namespace: "ns" + fmt.Sprint(g.IntN(3)), Name: fmt.Sprint("policy", g.IntN(3))}
		if g.yes(4) {
			out.Policies[name] = nil
			delete(now.Policies, name)
			continue
		}
		p := &state.Policy{Pods: g.selector()}
		if !g.yes(3) {
			p.Ingress = g.rules()
		}
		if g.yes(2) {
			p.Egress = g.rules()
		}
		out.Policies[name], now.Policies[name] = p, p
	}
	return out
}

func (g generator) labels() labels.Set {
	return labels.Set{"app": fmt.Sprint("a", g.IntN(2)), "tier": fmt.Sprint("t", g.IntN(2))}
}

func (g generator) selector() labels.Selector {
	switch g.IntN(4) {
	case 0:
		return labels.Everything()
	case 1:
		s, _ := labels.Parse("app in (a0),tier!=t0")
		return s
	default:
		return labels.SelectorFromSet(labels.Set{"app": fmt.Sprint("a", g.IntN(2))})
	}
}

func (g generator) rules() *[]state.PolicyRule {
	rules := make([]state.PolicyRule, g.IntN(3))
	for i := range rules {
		for range g.IntN(3) {
			rules[i].Peers = append(rules[i].Peers, g.peer())
		}
		for range g.IntN(3) {
			rules[i].Ports = append(rules[i].Ports, g.port())
		}
	}
	return &rules
}

func (g generator) peer() state.PolicyPeer {
	switch g.IntN(4) {
	case 0:
		return state.PolicyPeer{Pods: g.selector()}
	case 1:
		return state.PolicyPeer{Namespaces: g.selector(), Pods: labels.Everything()}
	case 2:
		return state.PolicyPeer{Namespaces: g.selector(), Pods: g.selector()}
	}
	p := state.PolicyPeer{Block: [...]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.200.0.8/29"),
		netip.MustParsePrefix("10.200.0.0/24"), netip.MustParsePrefix("fd00::/120"), netip.MustParsePrefix("::/0")}[g.IntN(5)]}
	for range g.IntN(3) {
		e := [...]netip.Prefix{netip.MustParsePrefix("10.200.0.12/30"), netip.MustParsePrefix("10.200.0.12/31"), netip.MustParsePrefix("fd00::10/126"),
			netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("10.0.0.0/8")}[g.IntN(5)]
		if p.Block.Contains(e.Addr()) && e.Bits() >= p.Block.Bits() {
			p.Except = append(p.Except, e)
		}
	}
	return p
}

func (g generator) port() state.PolicyPort {
	p := state.PolicyPort{Protocol: [...]state.Protocol{state.TCP, state.UDP}[g.IntN(2)]}
	switch g.IntN(4) {
	case 0:
		p.Protocol, p.Name = state.TCP, "web"
	case 1:
		p.To = 65535
	default:
		p.From = uint16(79 + g.IntN(3))
		p.To = p.From + uint16(g.IntN(2))
	}
	return p
}

func (g generator) connection() reference.Connection {
	at := func() netip.Addr {
		return netip.AddrFrom4([4]byte{10, 200, 0, byte(8 + g.IntN(12))})
	}
	if g.yes(3) {
		at = func() netip.Addr { return netip.MustParseAddr(fmt.Sprint("fd00::", 8+g.IntN(12))) }
	}
	c := reference.Connection{Client: at(), Server: at(), Protocol: [...]state.Protocol{state.TCP, state.UDP, 1}[g.IntN(3)], Port: uint16(79 + g.IntN(4))}
	if c.Client.Is4() && g.yes(6) {
		c.Client = [...]netip.Addr{netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("8.8.8.8")}[g.IntN(2)]
	}
	return c
}
