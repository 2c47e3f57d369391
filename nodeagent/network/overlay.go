package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The overlay: one VXLAN link that learns nothing and sends nothing to all. For a peer with pods 10.200.2.0/24 at
// 192.0.2.2 three entries are made, and only what they say can be reached:
//
//	route     10.200.2.0/24 via 10.200.2.0 dev hwvxlan onlink
//	neighbour 10.200.2.0 is at 0a:58:0a:c8:02:00
//	forward   0a:58:0a:c8:02:00 to 192.0.2.2
//
// The address of the link and its hardware address follow from the node's own range in the same way, so nodes need to
// tell each other nothing but what is in their Node objects.
const (
	overlayLink = linkPrefix + "vxlan"
	overlayID   = 1
	overlayPort = 4789
	// overlayCost is what wrapping adds to a packet: outer IPv4, UDP, VXLAN and inner Ethernet headers.
	overlayCost = 20 + 8 + 8 + 14
)

// far is a peer as the overlay knows it.
type far struct {
	network netip.Addr // first address of its range: the other end of the overlay
	node    netip.Addr
}

// connectOverlay makes the link with the entries of all peers and returns the routes that lead into it.
func connectOverlay(c Config, peers []Peer) (map[netip.Prefix]route, error) {
	if len(peers) == 0 {
		return nil, nil
	}
	link, err := ensureOverlay(c)
	if err != nil {
		return nil, err
	}
	want := map[netip.Prefix]route{}
	ends := map[string]far{}
	for _, p := range peers {
		f := far{network: p.PodCIDR.Addr(), node: p.Address}
		ends[hardwareAddr(f.network).String()] = f
		want[p.PodCIDR] = route{via: f.network, link: link.Attrs().Index}
	}
	return want, errors.Join(setNeighbours(link, ends), setForwarding(link, ends))
}

// ensureOverlay makes the VXLAN link. One that was made for another address or link is replaced.
func ensureOverlay(c Config) (netlink.Link, error) {
	under, err := underlay(c.NodeIP)
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = overlayLink, c.MTU, hardwareAddr(c.PodCIDR.Addr())
	want := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: overlayID, VtepDevIndex: under.Attrs().Index, SrcAddr: c.NodeIP.AsSlice(), Port: overlayPort, Learning: false,
	}
	link, err := netlink.LinkByName(overlayLink)
	if err == nil && !sameOverlay(link, want) {
		if err := netlink.LinkDel(link); err != nil {
			return nil, fmt.Errorf("remove old link %s: %w", overlayLink, err)
		}
		link, err = netlink.LinkByName(overlayLink)
	}
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		if err := netlink.LinkAdd(want); err != nil {
			return nil, fmt.Errorf("add VXLAN link %s (has the kernel the module vxlan?): %w", overlayLink, err)
		}
		link, err = netlink.LinkByName(overlayLink)
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", overlayLink, err)
	}
	if link.Attrs().MTU != c.MTU {
		if err := netlink.LinkSetMTU(link, c.MTU); err != nil {
			return nil, fmt.Errorf("link %s: set MTU: %w", overlayLink, err)
		}
	}
	if err := ensureAddress(link, netip.PrefixFrom(c.PodCIDR.Addr(), 32)); err != nil {
		return nil, fmt.Errorf("link %s: %w", overlayLink, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("link %s: set up: %w", overlayLink, err)
	}
	return link, nil
}

// sameOverlay says whether a link is the one that is wanted, but for what can be changed while it is up.
func sameOverlay(have netlink.Link, want *netlink.Vxlan) bool {
	h, ok := have.(*netlink.Vxlan)
	return ok && h.VxlanId == want.VxlanId && h.VtepDevIndex == want.VtepDevIndex && h.SrcAddr.Equal(want.SrcAddr) &&
		h.Port == want.Port && !h.Learning && h.HardwareAddr.String() == want.HardwareAddr.String()
}

func removeOverlay() error {
	link, err := netlink.LinkByName(overlayLink)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove link %s: %w", overlayLink, err)
	}
	return nil
}

// setNeighbours tells the link the hardware address of every other end; ends is keyed by it.
func setNeighbours(link netlink.Link, ends map[string]far) error {
	have, err := entries(link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	var errs []error
	for mac, f := range ends {
		if h, ok := have[mac]; ok && h.IP.Equal(f.network.AsSlice()) && h.State == netlink.NUD_PERMANENT {
			continue
		}
		err := netlink.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: f.network.AsSlice(), HardwareAddr: hardwareAddr(f.network),
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("set neighbour %s: %w", f.network, err))
		}
	}
	return errors.Join(append(errs, dropEntries(have, ends))...)
}

// setForwarding tells the link at which node every hardware address is.
func setForwarding(link netlink.Link, ends map[string]far) error {
	have, err := entries(link, unix.AF_BRIDGE)
	if err != nil {
		return err
	}
	var errs []error
	for mac, f := range ends {
		if h, ok := have[mac]; ok && h.IP.Equal(f.node.AsSlice()) {
			continue
		}
		err := netlink.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
			IP: f.node.AsSlice(), HardwareAddr: hardwareAddr(f.network),
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("set forwarding to node %s: %w", f.node, err))
		}
	}
	return errors.Join(append(errs, dropEntries(have, ends))...)
}

// entries reads the link's neighbours of one family by hardware address.
func entries(link netlink.Link, family int) (map[string]netlink.Neigh, error) {
	list, err := retry(func() ([]netlink.Neigh, error) { return netlink.NeighList(link.Attrs().Index, family) })
	if err != nil {
		return nil, fmt.Errorf("list neighbours of %s: %w", overlayLink, err)
	}
	out := map[string]netlink.Neigh{}
	for _, n := range list {
		if !emptyMAC(n.HardwareAddr) && n.IP != nil {
			out[n.HardwareAddr.String()] = n
		}
	}
	return out, nil
}

func emptyMAC(a net.HardwareAddr) bool {
	for _, b := range a {
		if b != 0 {
			return false
		}
	}
	return true
}

func dropEntries(have map[string]netlink.Neigh, ends map[string]far) error {
	var errs []error
	for mac, n := range have {
		if _, ok := ends[mac]; ok {
			continue
		}
		if err := netlink.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove neighbour %s at %s: %w", mac, n.IP, err))
		}
	}
	return errors.Join(errs...)
}

// underlay is the link that has the node's address, or else the one of the default route.
func underlay(node netip.Addr) (netlink.Link, error) {
	addrs, err := retry(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if node.IsValid() && a.IP.Equal(node.AsSlice()) && !a.IP.IsLoopback() {
			return netlink.LinkByIndex(a.LinkIndex)
		}
	}
	routes, err := retry(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if (r.Dst == nil || r.Dst.IP.IsUnspecified()) && r.LinkIndex > 0 {
			return netlink.LinkByIndex(r.LinkIndex)
		}
	}
	return nil, fmt.Errorf("no link has the node's address %s, and there is no default route", node)
}
