package network

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Names of what is ours in the kernel.
const (
	DefaultBridge = "hw0"
	linkPrefix    = "hw" // of the node's ends of pod links
	podLink       = "eth0"
)

// Bridge is the network of one node. It implements Attacher.
type Bridge struct {
	ledger *ledger

	mu     sync.Mutex // serializes Setup, Attach and Detach, and guards what follows
	cfg    Config
	ready  bool
	bridge netlink.Link
	peers  []Peer // nil: not told yet
}

// Open reads what is noted in dir. Nothing is changed before Setup.
func Open(dir string) (*Bridge, error) {
	l, err := openLedger(dir)
	if err != nil {
		return nil, err
	}
	return &Bridge{ledger: l}, nil
}

// Ready says whether pods can be attached.
func (b *Bridge) Ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ready
}

// Setup makes the node's side of the network, or brings it to what c says. It may be repeated at any time: what is
// missing is made again, for all attached pods too. Another range than the one in use is refused while pods use that.
func (b *Bridge) Setup(ctx context.Context, c Config) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.setup(ctx, c); err != nil {
		return fmt.Errorf("set up pod network: %w", err)
	}
	return nil
}

func (b *Bridge) setup(ctx context.Context, c Config) error {
	c, err := complete(c)
	if err != nil {
		return err
	}
	pods, err := b.ledger.pods()
	if err != nil {
		return err
	}
	for _, p := range pods {
		if !usable(c.PodCIDR, p.IP) {
			return fmt.Errorf("pod %s still has address %s, which is not of the range %s", p.Name, p.IP, c.PodCIDR)
		}
	}
	if b.bridge, err = ensureBridge(c); err != nil {
		return err
	}
	if err := b.ledger.setSysctls(c.Bridge); err != nil {
		return err
	}
	if err := program(c, pods); err != nil {
		return err
	}
	b.cfg, b.ready = c, true
	if err := b.connect(); err != nil {
		return fmt.Errorf("connect to other nodes: %w", err)
	}
	return ctx.Err()
}

// complete fills in defaults and refuses what cannot work.
func complete(c Config) (Config, error) {
	c.PodCIDR, c.ClusterCIDR = c.PodCIDR.Masked(), c.ClusterCIDR.Masked()
	c.Bridge = cmp.Or(c.Bridge, DefaultBridge)
	switch {
	case !c.PodCIDR.IsValid() || !c.PodCIDR.Addr().Is4() || c.PodCIDR.Bits() > 29:
		return c, fmt.Errorf("pod CIDR %s: need an IPv4 range with room for pods (at most /29)", c.PodCIDR)
	case !c.ClusterCIDR.IsValid():
		c.ClusterCIDR = c.PodCIDR
	case !c.ClusterCIDR.Addr().Is4():
		return c, fmt.Errorf("cluster CIDR %s: need an IPv4 range", c.ClusterCIDR)
	}
	if c.Mode = cmp.Or(c.Mode, VXLAN); c.MTU == 0 {
		c.MTU = defaultMTU(c)
	}
	return c, nil
}

// defaultMTU is that of the link between the nodes, less what the overlay adds to a packet.
func defaultMTU(c Config) int {
	mtu := 1500
	if l, err := underlay(c.NodeIP); err == nil {
		mtu = l.Attrs().MTU
	}
	if c.Mode == VXLAN {
		mtu -= overlayCost
	}
	return mtu
}

// retry repeats a netlink dump that a concurrent change interrupted.
func retry[T any](f func() (T, error)) (T, error) {
	var v T
	var err error
	for range 5 {
		if v, err = f(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return v, err
}

// ensureBridge makes the bridge with its address. The hardware address is fixed, else it would change with the ports
// and pods would talk to the wrong one for a while.
func ensureBridge(c Config) (netlink.Link, error) {
	gw := gateway(c.PodCIDR)
	link, err := netlink.LinkByName(c.Bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = c.Bridge, c.MTU, hardwareAddr(gw)
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("add bridge %s: %w", c.Bridge, err)
		}
		link, err = netlink.LinkByName(c.Bridge)
	}
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", c.Bridge, err)
	}
	if link.Type() != "bridge" {
		return nil, fmt.Errorf("link %s exists and is a %s, not a bridge", c.Bridge, link.Type())
	}
	if link.Attrs().MTU != c.MTU {
		if err := netlink.LinkSetMTU(link, c.MTU); err != nil {
			return nil, fmt.Errorf("bridge %s: set MTU: %w", c.Bridge, err)
		}
	}
	if err := ensureAddress(link, netip.PrefixFrom(gw, c.PodCIDR.Bits())); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", c.Bridge, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("bridge %s: set up: %w", c.Bridge, err)
	}
	return link, nil
}

// ensureAddress gives a link exactly one IPv4 address.
func ensureAddress(link netlink.Link, want netip.Prefix) error {
	have, err := retry(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	found := false
	for _, a := range have {
		if a.IPNet.String() == want.String() {
			found = true
		} else if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	if found {
		return nil
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(want)}); err != nil {
		return fmt.Errorf("add address %s: %w", want, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// hardwareAddr is derived from an address: locally administered, the same after every restart.
func hardwareAddr(ip netip.Addr) net.HardwareAddr {
	b := ip.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

// LinkName is the node's end of a pod's link.
func LinkName(uid string) string {
	sum := sha256.Sum256([]byte(uid))
	return linkPrefix + hex.EncodeToString(sum[:])[:11]
}

// Attach implements Attacher.
func (b *Bridge) Attach(ctx context.Context, p Pod) ([]netip.Addr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ip, err := b.attach(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("attach pod %s to the network: %w", p.Name, err)
	}
	return []netip.Addr{ip}, nil
}

func (b *Bridge) attach(ctx context.Context, p Pod) (netip.Addr, error) {
	if !b.ready {
		return netip.Addr{}, ErrNotReady
	}
	if err := ctx.Err(); err != nil {
		return netip.Addr{}, err
	}
	if err := b.checkHostPorts(p); err != nil {
		return netip.Addr{}, err
	}
	ip, err := b.ledger.take(b.cfg.PodCIDR, p.UID)
	if err != nil {
		return netip.Addr{}, err
	}
	if err := b.ledger.note(attachment{UID: p.UID, Name: p.Name, IP: ip, HostPorts: p.HostPorts}); err != nil {
		return netip.Addr{}, err
	}
	if err := b.plug(p, ip); err != nil {
		return netip.Addr{}, err
	}
	if len(p.HostPorts) == 0 {
		return ip, nil
	}
	return ip, b.reprogram()
}

// checkHostPorts refuses a port of the node that another pod has.
func (b *Bridge) checkHostPorts(p Pod) error {
	if len(p.HostPorts) == 0 {
		return nil
	}
	pods, err := b.ledger.pods()
	if err != nil {
		return err
	}
	for _, o := range pods {
		for _, theirs := range o.HostPorts {
			if o.UID != p.UID && slices.ContainsFunc(p.HostPorts, theirs.conflicts) {
				return fmt.Errorf("host port %d/%s is in use by pod %s", theirs.HostPort, theirs.Protocol, o.Name)
			}
		}
	}
	return nil
}

// conflicts says whether two host ports would catch the same packets.
func (h HostPort) conflicts(o HostPort) bool {
	anyIP := func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
	return h.HostPort == o.HostPort && strings.EqualFold(h.Protocol, o.Protocol) &&
		(anyIP(h.HostIP) || anyIP(o.HostIP) || h.HostIP == o.HostIP)
}

// plug makes the link between pod and bridge, both ends configured. One that is there from an earlier try is replaced.
func (b *Bridge) plug(p Pod, ip netip.Addr) error {
	ns, err := netns.GetFromPath(p.NetNS)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	name := LinkName(p.UID)
	if old, err := netlink.LinkByName(name); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return fmt.Errorf("remove old link %s: %w", name, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = name, b.cfg.MTU, b.bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: podLink, PeerNamespace: netlink.NsFd(ns), PeerHardwareAddr: hardwareAddr(ip), PeerMTU: uint32(b.cfg.MTU)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add link %s: %w", name, err)
	}
	// For a pod that reaches itself by an address of a service or of the node, where br_netfilter is on: it then forwards
	// translated packets inside the bridge.
	if err := netlink.LinkSetHairpin(veth, true); err != nil {
		return fmt.Errorf("set hairpin mode of link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return configurePod(ns, ip, gateway(b.cfg.PodCIDR))
}

// configurePod does what is to be done inside the pod's namespace, by a socket that was opened there.
func configurePod(ns netns.NsHandle, ip, gw netip.Addr) error {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer h.Close()
	// The loopback link is always number 1.
	if err := h.LinkSetUp(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 1}}); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	link, err := h.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", podLink, err)
	}
	host := func(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, a.BitLen())) }
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: host(ip)}); err != nil {
		return fmt.Errorf("add address %s: %w", ip, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", podLink, err)
	}
	index := link.Attrs().Index
	onLink := &netlink.Route{LinkIndex: index, Dst: host(gw), Scope: netlink.SCOPE_LINK, Src: ip.AsSlice()}
	if err := h.RouteAdd(onLink); err != nil {
		return fmt.Errorf("add route to the bridge: %w", err)
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gw.AsSlice(), Src: ip.AsSlice()}); err != nil {
		return fmt.Errorf("add default route: %w", err)
	}
	return nil
}

// Detach implements Attacher.
func (b *Bridge) Detach(_ context.Context, uid string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, known, err := b.ledger.pod(uid)
	if err != nil {
		return err
	}
	if l, err := netlink.LinkByName(LinkName(uid)); err == nil {
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove link of pod %s: %w", uid, err)
		}
	} else if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("remove link of pod %s: %w", uid, err)
	}
	if err := b.ledger.free(uid); err != nil {
		return err
	}
	if known && len(a.HostPorts) > 0 && b.ready {
		return b.reprogram()
	}
	return nil
}

// reprogram writes the rules anew from the ledger.
func (b *Bridge) reprogram() error {
	pods, err := b.ledger.pods()
	if err != nil {
		return err
	}
	return program(b.cfg, pods)
}

// Teardown removes every trace of the network from the kernel and from dir: rules, links, bridge, changed settings.
// Pods that are still attached lose their connection.
func Teardown(_ context.Context, dir string, bridge string) error {
	bridge = cmp.Or(bridge, DefaultBridge)
	errs := []error{unprogram(), setRoutes(nil), removeOverlay()}
	if br, err := netlink.LinkByName(bridge); err == nil {
		links, err := retry(netlink.LinkList)
		errs = append(errs, err)
		for _, l := range links {
			if l.Attrs().MasterIndex == br.Attrs().Index && l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, linkPrefix) {
				errs = append(errs, netlink.LinkDel(l))
			}
		}
		errs = append(errs, netlink.LinkDel(br))
	}
	if l, err := openLedger(dir); err == nil {
		errs = append(errs, l.restoreSysctls())
	}
	errs = append(errs, os.RemoveAll(filepath.Clean(dir)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("tear down pod network: %w", err)
	}
	return nil
}
