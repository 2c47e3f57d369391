// Package netlab builds a small network out of fresh network namespaces for tests: a node with a pod bridge, pods on the bridge, and a machine
// outside. Nothing of the host's own network is touched, and all of it goes when the test ends.
package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Space is one network namespace.
type Space struct {
	Name   string
	Addr   netip.Addr
	Addr6  netip.Addr
	fd     netns.NsHandle
	handle *netlink.Handle
	t      testing.TB
}

// Lab is the network: 10.200.0.0/24 are pods behind the node's bridge hw0 (10.200.0.1), 192.168.77.0/24 joins the node (.1) and the outside (.2).
// Likewise fd00:200::/64 and fd00:77::/64.
type Lab struct {
	Node    *Space
	Outside *Space
	t       testing.TB
	pods    int
}

// NodeAddr is the address of the node towards the outside.
var NodeAddr = netip.MustParseAddr("192.168.77.1")

// PodCIDR and PodCIDR6 are the networks of the pods.
var (
	PodCIDR  = netip.MustParsePrefix("10.200.0.0/24")
	PodCIDR6 = netip.MustParsePrefix("fd00:200::/64")
)

// New builds a lab without pods, or skips the test where the privilege for it is missing.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: network namespaces need root")
	}
	l := &Lab{t: t}
	l.Node = newSpace(t, "node", NodeAddr)
	l.Outside = newSpace(t, "outside", netip.MustParseAddr("192.168.77.2"))
	l.Node.sysctl("net/ipv4/ip_forward", "1")
	l.Node.sysctl("net/ipv6/conf/all/forwarding", "1")
	l.Node.Addr6, l.Outside.Addr6 = netip.MustParseAddr("fd00:77::1"), netip.MustParseAddr("fd00:77::2")
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "hw0"}}
	l.Node.must(l.Node.handle.LinkAdd(bridge))
	l.Node.address("hw0", "10.200.0.1/24")
	l.Node.address("hw0", "fd00:200::1/64")
	for _, name := range []string{"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"} {
		l.Node.sysctl(name, "1")
	}
	l.join(l.Outside, "eth0", "up0")
	l.Node.address("up0", "192.168.77.1/24")
	l.Outside.address("eth0", "192.168.77.2/24")
	l.Node.address("up0", "fd00:77::1/64")
	l.Outside.address("eth0", "fd00:77::2/64")
	l.Node.route("192.168.77.2")
	l.Node.route("fd00:77::2")
	return l
}

// Pod adds a pod with the next address of 10.200.0.10 and up.
func (l *Lab) Pod() *Space {
	l.t.Helper()
	n := 10 + l.pods
	l.pods++
	addr := netip.AddrFrom4([4]byte{10, 200, 0, byte(n)})
	p := newSpace(l.t, fmt.Sprintf("pod%d", n), addr)
	port := fmt.Sprintf("veth%d", n)
	l.join(p, "eth0", port)
	link, err := l.Node.handle.LinkByName(port)
	l.Node.must(err)
	bridge, err := l.Node.handle.LinkByName("hw0")
	l.Node.must(err)
	l.Node.must(l.Node.handle.LinkSetMaster(link, bridge))
	l.Node.must(l.Node.handle.LinkSetHairpin(link, true))
	l.Node.must(l.Node.handle.LinkSetUp(link))
	p.address("eth0", addr.String()+"/24")
	p.Addr6 = netip.MustParseAddr(fmt.Sprintf("fd00:200::%d", n))
	p.address("eth0", p.Addr6.String()+"/64")
	p.route("10.200.0.1")
	p.route("fd00:200::1")
	l.waitUp(port)
	return p
}

// waitUp waits until a link of the node has a carrier: the bridge drops what comes in before.
func (l *Lab) waitUp(name string) {
	l.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		link, err := l.Node.handle.LinkByName(name)
		l.Node.must(err)
		if link.Attrs().OperState == netlink.OperUp {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("link %s of the node has no carrier", name)
		}
	}
}

// join lays a cable between a space and the node.
func (l *Lab) join(s *Space, inside, onNode string) {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: onNode}, PeerName: inside, PeerNamespace: netlink.NsFd(s.fd)}
	l.Node.must(l.Node.handle.LinkAdd(veth))
}

func newSpace(t testing.TB, name string, addr netip.Addr) *Space {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		t.Fatalf("get own namespace: %v", err)
	}
	defer func() { _ = own.Close() }()
	fd, err := netns.New()
	if err != nil {
		t.Skipf("SKIPPED: no network namespaces here: %v", err)
	}
	if err := netns.Set(own); err != nil {
		t.Fatalf("return to own namespace: %v", err)
	}
	s := &Space{Name: name, Addr: addr, fd: fd, t: t}
	s.handle, err = netlink.NewHandleAt(fd)
	s.must(err)
	t.Cleanup(func() { s.handle.Close(); _ = fd.Close() })
	lo, err := s.handle.LinkByName("lo")
	s.must(err)
	s.must(s.handle.LinkSetUp(lo))
	return s
}

func (s *Space) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("namespace %s: %v", s.Name, err)
	}
}

// FD is a file descriptor of the namespace, good until the test ends.
func (s *Space) FD() int { return int(s.fd) }

// Do calls f inside the namespace. f must not hand work that depends on the namespace to other goroutines.
func (s *Space) Do(f func()) {
	s.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	s.must(err)
	defer func() { _ = own.Close() }()
	s.must(netns.Set(s.fd))
	defer func() { s.must(netns.Set(own)) }()
	f()
}

func (s *Space) sysctl(name, value string) {
	s.t.Helper()
	s.Do(func() { s.must(os.WriteFile("/proc/sys/"+name, []byte(value), 0o644)) })
}

func (s *Space) address(link, cidr string) {
	s.t.Helper()
	l, err := s.handle.LinkByName(link)
	s.must(err)
	a, err := netlink.ParseAddr(cidr)
	s.must(err)
	a.Flags |= 0x02 // IFA_F_NODAD
	s.must(s.handle.AddrAdd(l, a))
	s.must(s.handle.LinkSetUp(l))
}

func (s *Space) route(gateway string) {
	s.t.Helper()
	s.must(s.handle.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)}))
}
