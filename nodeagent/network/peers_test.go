package network

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

var (
	farCIDR = netip.MustParsePrefix("10.200.2.0/24")
	farIP   = worldIP
)

// TestTwoNodes connects this namespace and the world's as two nodes and lets their pods talk.
func TestTwoNodes(t *testing.T) {
	for _, mode := range []Mode{VXLAN, Route} {
		t.Run(string(mode), func(t *testing.T) { testTwoNodes(t, mode) })
	}
}

func testTwoNodes(t *testing.T, mode Mode) {
	n := newNode(t)
	nearCfg := Config{PodCIDR: podCIDR, ClusterCIDR: clusterCIDR, NodeIP: nodeIP, Mode: mode}
	if err := n.Setup(t.Context(), nearCfg); err != nil {
		t.Fatal(err)
	}
	peers := []Peer{{Name: "far", Address: farIP, PodCIDR: farCIDR}}
	if err := n.SetPeers(t.Context(), peers); err != nil {
		t.Fatal(err)
	}
	nearNS, nearPod := n.pod(t, "near")
	far, err := Open(filepath.Join(t.TempDir(), "far"))
	if err != nil {
		t.Fatal(err)
	}
	farNS := namespace(t)
	var farPod netip.Addr
	within(t, n.world, func() {
		link, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err == nil { // what newNode set up for another test
			err = netlink.RouteDel(&netlink.Route{Dst: ipNet(podCIDR), Gw: nodeIP.AsSlice()})
		}
		if err == nil {
			err = far.Setup(t.Context(), Config{PodCIDR: farCIDR, ClusterCIDR: clusterCIDR, NodeIP: farIP, Mode: mode})
		}
		if err == nil {
			err = far.SetPeers(t.Context(), []Peer{{Name: "near", Address: nodeIP, PodCIDR: podCIDR}})
		}
		var ips []netip.Addr
		if err == nil {
			ips, err = far.Attach(t.Context(), Pod{UID: "far", Name: "test/far", NetNS: farNS})
		}
		if err != nil {
			t.Error(err)
			return
		}
		farPod = ips[0]
	})
	if t.Failed() {
		return
	}
	tells(t, nearNS, 80)
	tells(t, farNS, 80)
	at := func(ip netip.Addr) string { return netip.AddrPortFrom(ip, 80).String() }
	node := map[Mode]string{VXLAN: podCIDR.Addr().String(), Route: nodeIP.String()}[mode]
	for _, tt := range []struct{ name, from, network, to, want string }{
		{"near pod to far pod", nearNS, "tcp4", at(farPod), nearPod.String()},
		{"far pod to near pod", farNS, "tcp4", at(nearPod), farPod.String()},
		{"over UDP", nearNS, "udp4", at(farPod), nearPod.String()},
		{"near node to far pod", "", "tcp4", at(farPod), node},
	} {
		if got := ask(t, tt.from, tt.network, tt.to); got != tt.want {
			t.Errorf("%s: the server saw %q, want %q", tt.name, got, tt.want)
		}
	}
	again, err := Open(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Setup(t.Context(), nearCfg); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, nearNS, "tcp4", at(farPod)); got != nearPod.String() {
		t.Errorf("after a restart, before the nodes are known: %q", got)
	}
	if err := again.SetPeers(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if routes, err := ourRoutes(); err != nil || len(routes) > 0 {
		t.Errorf("routes of a node that is gone: %v, %v", routes, err)
	}
	if _, err := netlink.LinkByName(overlayLink); err == nil {
		t.Error("the overlay of the last node that is gone is still there")
	}
}

func TestAcceptable(t *testing.T) {
	c := Config{PodCIDR: podCIDR, ClusterCIDR: clusterCIDR, NodeIP: nodeIP}
	peer := func(name, ip, cidr string) Peer {
		return Peer{Name: name, Address: netip.MustParseAddr(ip), PodCIDR: netip.MustParsePrefix(cidr)}
	}
	peers := []Peer{
		peer("good", "192.0.2.2", "10.200.2.0/24"), peer("late", "192.0.2.3", "10.200.2.128/25"), peer("greedy", "192.0.2.4", "0.0.0.0/0"),
		peer("mine", "192.0.2.5", "10.200.1.0/24"), peer("me", "192.0.2.1", "10.200.4.0/24"), peer("also", "192.0.2.6", "10.200.6.7/24"),
	}
	got, err := acceptable(c, peers)
	if fmt.Sprint(got) != fmt.Sprint([]Peer{peer("good", "192.0.2.2", "10.200.2.0/24"), peer("also", "192.0.2.6", "10.200.6.0/24")}) {
		t.Errorf("accepted %v", got)
	}
	for _, refused := range []string{"late", "greedy", "mine", "me"} {
		if err == nil || !strings.Contains(err.Error(), "node "+refused) {
			t.Errorf("%v does not name %s", err, refused)
		}
	}
}

func TestDiffRoutes(t *testing.T) {
	p := netip.MustParsePrefix
	via := func(ip string, link int) route { return route{netip.MustParseAddr(ip), link} }
	have := map[netip.Prefix]route{p("10.0.1.0/24"): via("192.0.2.1", 2), p("10.0.2.0/24"): via("192.0.2.2", 2), p("10.0.3.0/24"): via("192.0.2.3", 2)}
	want := map[netip.Prefix]route{p("10.0.1.0/24"): via("192.0.2.1", 2), p("10.0.2.0/24"): via("192.0.2.9", 2), p("10.0.4.0/24"): via("192.0.2.4", 3)}
	set, gone := diffRoutes(have, want)
	if fmt.Sprint(set, gone) != "[10.0.2.0/24 10.0.4.0/24] [10.0.3.0/24]" {
		t.Errorf("set %v, gone %v", set, gone)
	}
	if set, gone := diffRoutes(want, want); len(set)+len(gone) > 0 {
		t.Errorf("a second time: set %v, gone %v", set, gone)
	}
}
