package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestMain runs all tests in a network namespace of their own, so that the machine's network is never touched.
func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	const inside = "HARDWAY_TEST_INSIDE"
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "SKIP: the network tests need root")
		return 0
	}
	var err error
	if os.Getenv(inside) != "" {
		if err = enterTestbed(); err == nil {
			return m.Run()
		}
	} else {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func enterTestbed() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

var (
	podCIDR     = netip.MustParsePrefix("10.200.1.0/24")
	clusterCIDR = netip.MustParsePrefix("10.200.0.0/16")
	nodeIP      = netip.MustParseAddr("192.0.2.1")
	worldIP     = netip.MustParseAddr("192.0.2.99")
)

// node is a bridge under test beside a machine of the outside world.
type node struct {
	*Bridge
	dir   string
	world string // its network namespace
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{dir: filepath.Join(t.TempDir(), "network"), world: namespace(t)}
	b, err := Open(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	n.Bridge = b
	ns, err := netns.GetFromPath(n.world)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := Teardown(context.Background(), n.dir, "")
		if l, lerr := netlink.LinkByName("uplink"); lerr == nil {
			err = errors.Join(err, netlink.LinkDel(l))
		}
		if err != nil {
			t.Error(err)
		}
	})
	address(t, "uplink", netip.PrefixFrom(nodeIP, 24))
	within(t, n.world, func() {
		address(t, "eth0", netip.PrefixFrom(worldIP, 24))
		address(t, "eth0", netip.MustParsePrefix("10.200.9.9/32")) // plays a pod of another node
		if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(podCIDR), Gw: nodeIP.AsSlice()}); err != nil {
			t.Error(err)
		}
	})
	if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.200.9.0/24")), Gw: worldIP.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	if err := n.Setup(t.Context(), Config{PodCIDR: podCIDR, ClusterCIDR: clusterCIDR}); err != nil {
		t.Fatal(err)
	}
	return n
}

// address adds an address in the current namespace and sets the link up.
func address(t *testing.T, link string, a netip.Prefix) {
	t.Helper()
	l, err := netlink.LinkByName(link)
	if err == nil {
		err = errors.Join(netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(a)}), netlink.LinkSetUp(l))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// namespace makes a network namespace and returns its path.
func namespace(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread must not be used again
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path
}

// within runs f in a namespace.
func within(t *testing.T, path string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		ns, err := netns.GetFromPath(path)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// pod attaches a pod.
func (n *node) pod(t *testing.T, uid string, ports ...HostPort) (netns string, ip netip.Addr) {
	t.Helper()
	ns := namespace(t)
	ips, err := n.Attach(t.Context(), Pod{UID: uid, Name: "test/" + uid, NetNS: ns, HostPorts: ports})
	if err != nil {
		t.Fatal(err)
	}
	return ns, ips[0]
}

// tells serves TCP and UDP on a port in the namespace ("" is the node); the answer to anything is the caller's address.
func tells(t *testing.T, path string, port int) {
	t.Helper()
	serve := func() {
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			t.Error(err)
			return
		}
		u, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close(); u.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintln(c, c.RemoteAddr().(*net.TCPAddr).IP)
				c.Close()
			}
		}()
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				if _, err := u.WriteTo([]byte(from.(*net.UDPAddr).IP.String()+"\n"), from); err != nil {
					return
				}
			}
		}()
	}
	if path == "" {
		serve()
	} else {
		within(t, path, serve)
	}
}

// ask connects from a namespace ("" is the node) and returns what the server answers, or the error.
func ask(t *testing.T, from, network, addr string) string {
	t.Helper()
	return askBy(t, &net.Dialer{Timeout: 2 * time.Second}, from, network, addr)
}

func askBy(t *testing.T, d *net.Dialer, from, network, addr string) string {
	t.Helper()
	answer := ""
	f := func() {
		c, err := d.DialContext(t.Context(), network, addr)
		if err != nil {
			answer = err.Error()
			return
		}
		defer c.Close()
		err = c.SetDeadline(time.Now().Add(2 * time.Second))
		if err == nil && network == "udp4" {
			_, err = io.WriteString(c, "?")
		}
		if err == nil {
			answer, err = bufio.NewReader(c).ReadString('\n')
		}
		if err != nil {
			answer = err.Error()
		}
		answer = strings.TrimSpace(answer)
	}
	if from == "" {
		f()
	} else {
		within(t, from, f)
	}
	return answer
}

func TestTraffic(t *testing.T) {
	const bridged = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	for _, v := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+v, func(t *testing.T) {
			if err := os.WriteFile(bridged, []byte(v), 0); err != nil && v == "1" {
				t.Skip("SKIP: br_netfilter is not there:", err)
			}
			testTraffic(t)
		})
	}
}

func testTraffic(t *testing.T) {
	n := newNode(t)
	hostIP := netip.MustParseAddr("192.0.2.1")
	aNS, aIP := n.pod(t, "a", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: "TCP"}, HostPort{HostPort: 5353, ContainerPort: 53, Protocol: "UDP"})
	bNS, bIP := n.pod(t, "b", HostPort{HostIP: hostIP, HostPort: 9090, ContainerPort: 80, Protocol: "TCP"},
		HostPort{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 9091, ContainerPort: 80, Protocol: "TCP"})
	tells(t, aNS, 80)
	tells(t, aNS, 53)
	tells(t, bNS, 80)
	tells(t, n.world, 7000)
	tells(t, "", 7001)
	service(t, "10.32.0.1", 443, bIP, 80)

	gw := gateway(podCIDR).String()
	at := func(ip netip.Addr, port int) string { return netip.AddrPortFrom(ip, uint16(port)).String() }
	tests := []struct {
		name, from, network, to, want string
	}{
		{"node to pod", "", "tcp4", at(aIP, 80), gw},
		{"pod to node", aNS, "tcp4", at(nodeIP, 7001), aIP.String()},
		{"pod to pod on the same node", aNS, "tcp4", at(bIP, 80), aIP.String()},
		{"pod to itself", aNS, "tcp4", at(aIP, 80), aIP.String()},
		{"pod to a pod on another node keeps its address", aNS, "tcp4", "10.200.9.9:7000", aIP.String()},
		{"pod to the world has the node's address", aNS, "tcp4", at(worldIP, 7000), nodeIP.String()},
		{"pod on another node to pod", n.world, "tcp4", at(aIP, 80), worldIP.String()},
		{"host port from the world", n.world, "tcp4", at(nodeIP, 8080), worldIP.String()},
		{"host port from the node", "", "tcp4", at(nodeIP, 8080), nodeIP.String()},
		{"host port from another pod", bNS, "tcp4", at(nodeIP, 8080), bIP.String()},
		{"host port from the pod itself", aNS, "tcp4", at(nodeIP, 8080), gw},
		{"host port over UDP", n.world, "udp4", at(nodeIP, 5353), worldIP.String()},
		{"host port on one address", n.world, "tcp4", at(hostIP, 9090), worldIP.String()},
		{"service address to a pod on the same node", aNS, "tcp4", "10.32.0.1:443", aIP.String()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ask(t, tt.from, tt.network, tt.to); got != tt.want {
				t.Errorf("the server saw %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("host port on loopback, from the node's address", func(t *testing.T) {
		d := &net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: nodeIP.AsSlice()}}
		for _, port := range []string{"8080", "9091"} {
			if got := askBy(t, d, "", "tcp4", "127.0.0.1:"+port); got != nodeIP.String() {
				t.Errorf("the server behind %s saw %q", port, got)
			}
		}
	})
	t.Run("the node's loopback is closed to its neighbours", func(t *testing.T) {
		settings, err := filepath.Glob("/proc/sys/net/ipv4/conf/*/route_localnet")
		if err != nil || len(settings) == 0 {
			t.Fatal(settings, err)
		}
		for _, s := range settings { // CVE-2020-8558
			if b, err := os.ReadFile(s); err != nil || strings.TrimSpace(string(b)) != "0" {
				t.Errorf("%s: %q, %v", s, b, err)
			}
		}
	})
	t.Run("host port on another address is not caught", func(t *testing.T) {
		if got := ask(t, "", "tcp4", gw+":9090"); !strings.Contains(got, "refused") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("clash is refused", func(t *testing.T) {
		_, err := n.Attach(t.Context(), Pod{UID: "c", Name: "test/c", NetNS: namespace(t), HostPorts: []HostPort{{HostPort: 8080, Protocol: "TCP"}}})
		if err == nil || !strings.Contains(err.Error(), "host port 8080/TCP is in use by pod test/a") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("freed port is closed and can be had again", func(t *testing.T) {
		if err := n.Detach(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, n.world, "tcp4", at(nodeIP, 8080)); !strings.Contains(got, "refused") {
			t.Errorf("got %q", got)
		}
		n.pod(t, "c", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: "TCP"})
	})
}

// service does what the service proxy does: translate a service address to a pod, in a table of its own.
func service(t *testing.T, vip string, port int, to netip.Addr, toPort int) {
	t.Helper()
	rules := fmt.Sprintf(`table ip testproxy {
		chain pre { type nat hook prerouting priority dstnat - 10; ip daddr %s tcp dport %d dnat to %s:%d; }
	}`, vip, port, to, toPort)
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("SKIP: needs nft: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := exec.Command("nft", "delete", "table", "ip", "testproxy").Run(); err != nil {
			t.Error(err)
		}
	})
}

func TestPodSide(t *testing.T) {
	n := newNode(t)
	ns, ip := n.pod(t, "a")
	within(t, ns, func() {
		for _, name := range []string{"lo", "eth0"} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				t.Error(err)
				return
			}
			if l.Attrs().Flags&net.FlagUp == 0 {
				t.Errorf("%s is down", name)
			}
		}
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			t.Error(err)
			return
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil || len(addrs) != 1 || addrs[0].IP.String() != ip.String() {
			t.Errorf("addresses %v, %v", addrs, err)
		}
	})
}

func TestRepeat(t *testing.T) {
	n := newNode(t)
	ns, ip := n.pod(t, "a", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: "TCP"})
	tells(t, ns, 80)

	// A new agent finds the pod attached.
	again, err := Open(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Attach(t.Context(), Pod{UID: "a", NetNS: ns}); !errors.Is(err, ErrNotReady) {
		t.Errorf("attach before setup: %v", err)
	}
	if err := again.Setup(t.Context(), Config{PodCIDR: podCIDR, ClusterCIDR: clusterCIDR}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "", "tcp4", "192.0.2.1:8080"); got != nodeIP.String() {
		t.Errorf("host port after a restart: %q", got)
	}
	ips, err := again.Attach(t.Context(), Pod{UID: "a", NetNS: ns})
	if err != nil || ips[0] != ip {
		t.Errorf("attached again: %v, %v, want %v", ips, err, ip)
	}
	if got := ask(t, "", "tcp4", ip.String()+":80"); got != gateway(podCIDR).String() {
		t.Errorf("pod after attaching again: %q", got)
	}
	if err := again.Setup(t.Context(), Config{PodCIDR: netip.MustParsePrefix("10.201.0.0/24")}); err == nil {
		t.Error("another range was accepted while pods use this one")
	}
	for range 2 {
		if err := again.Detach(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTeardown(t *testing.T) {
	before := snapshot(t)
	n := newNode(t)
	n.pod(t, "a", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: "TCP"})
	if b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); strings.TrimSpace(string(b)) != "1" {
		t.Error("the node does not forward")
	}
	for range 2 {
		if err := Teardown(t.Context(), n.dir, ""); err != nil {
			t.Fatal(err)
		}
	}
	l, err := netlink.LinkByName("uplink")
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	if after := snapshot(t); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
	if _, err := os.Stat(n.dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the ledger is still there")
	}
}

// snapshot is everything that a teardown must restore.
func snapshot(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		fmt.Fprintln(&b, "link", l.Attrs().Name)
	}
	fwd, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "ip_forward %s", fwd)
	if out, err := exec.Command("nft", "list", "tables").CombinedOutput(); err == nil {
		b.Write(out)
	}
	return b.String()
}
