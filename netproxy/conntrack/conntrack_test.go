package conntrack

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"hardway/netproxy/kernel"
	"hardway/netproxy/netlab"
	"hardway/netproxy/plan"
	"hardway/netproxy/state"
)

// TestClean swaps the endpoint of a UDP service under clients that keep their ports.
func TestClean(t *testing.T) {
	lab := netlab.New(t)
	one, two, client := lab.Pod(), lab.Pod(), lab.Pod()
	for _, p := range []*netlab.Space{one, two} {
		p.ServeUDP(8053)
	}
	planner := plan.New(state.Node{Name: "node"})
	k, err := kernel.Open(lab.Node.FD(), []plan.Family{plan.IPv4})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = k.Close() }()
	set := func(to ...*netlab.Space) []plan.Flow {
		t.Helper()
		step := planner.Step(state.Changes{Services: []state.Change{{Name: state.Name{Name: "dns"}, Facts: facts(to...)}}})
		if _, err := k.Sync(kernel.Want{Options: kernel.Options{ClusterCIDRs: []netip.Prefix{netlab.PodCIDR}, MasqueradeMark: 0x4000},
			Elements: planner.Elements(), Chains: planner.Chains()}); err != nil {
			t.Fatal(err)
		}
		return step.Flows
	}
	cleaner, err := Open(lab.Node.FD())
	if err != nil {
		t.Fatal(err)
	}
	defer cleaner.Close()

	set(one)
	clients := map[string]net.Conn{
		"pod, cluster IP":    client.UDP("10.32.0.10:53"),
		"node, cluster IP":   lab.Node.UDP("10.32.0.10:53"),
		"outside, node port": lab.Outside.UDP("192.168.77.1:30053"),
	}
	// A flow of no service must survive: its reply path is watched by its port, which a new flow would not keep.
	direct := client.UDP(one.Addr.String() + ":8053")
	want := func(when string, space *netlab.Space, wait time.Duration) {
		t.Helper()
		for name, c := range clients {
			server, _, err := netlab.AskUDP(c, wait)
			if space == nil && err == nil {
				t.Errorf("%s, %s: %s answered, want nobody", when, name, server)
			}
			if space != nil && (err != nil || server != space.Name) {
				t.Errorf("%s, %s: got %q, %v; want %s", when, name, server, err, space.Name)
			}
		}
	}
	want("first", one, time.Second)
	if _, _, err := netlab.AskUDP(direct, time.Second); err != nil {
		t.Fatal(err)
	}

	flows := set(two)
	want("swapped, before cleaning", one, time.Second)
	if n, err := cleaner.Clean(flows); n != 3 || err != nil {
		t.Errorf("cleaned %d flows, %v; want 3", n, err)
	}
	want("swapped", two, time.Second)
	if n, err := cleaner.Clean(planner.Flows()); n != 0 || err != nil {
		t.Errorf("cleaned %d flows, %v; want none: all lead to the endpoint", n, err)
	}

	if n, err := cleaner.Clean(set()); n != 3 || err != nil {
		t.Errorf("without endpoints, cleaned %d flows, %v; want 3", n, err)
	}
	want("without endpoints", nil, 50*time.Millisecond)
	if _, err := cleaner.Clean(set(one)); err != nil {
		t.Error(err)
	}
	want("an endpoint again", one, time.Second)
}

func facts(to ...*netlab.Space) state.Facts {
	s := &state.Service{Name: state.Name{Name: "dns"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.32.0.10")},
		Ports: []state.Port{{Protocol: state.UDP, Port: 53, NodePort: 30053}}}
	slice := state.Slice{Ports: []state.SlicePort{{Protocol: state.UDP, Port: 8053}}}
	for _, p := range to {
		slice.Endpoints = append(slice.Endpoints, state.Endpoint{Addr: p.Addr, Node: "node", Ready: true, Serving: true})
	}
	return state.Facts{Service: s, Slices: []state.Slice{slice}}
}
