package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mode is how packets get from this node to pods of another one.
type Mode string

// The modes.
const (
	// VXLAN wraps them into UDP between the nodes' addresses: works over any network that carries IP.
	VXLAN Mode = "vxlan"
	// Route sends them to the other node as they are: for nodes that share a link.
	Route Mode = "route"
	// None leaves it to somebody else: a router that knows the nodes' ranges, or a cloud.
	None Mode = "none"
)

// Peer is another node.
type Peer struct {
	Name    string
	Address netip.Addr   // where the node is reached
	PodCIDR netip.Prefix // its pods
}

// protocol marks our routes in the kernel, as "proto" of ip route.
const protocol = 72

// route is the way to one range of another node's pods.
type route struct {
	via  netip.Addr
	link int
}

// SetPeers makes the ways to the pods of all other nodes: every one of peers, and no other. It may be repeated. A peer
// that cannot be reached in this mode is in the error and keeps nobody else from being reached. Before Setup the
// peers are only remembered; before the first SetPeers the ways that an earlier agent made are left alone.
func (b *Bridge) SetPeers(ctx context.Context, peers []Peer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peers = append([]Peer{}, peers...)
	if !b.ready {
		return nil
	}
	if err := b.connect(); err != nil {
		return fmt.Errorf("connect to other nodes: %w", err)
	}
	return ctx.Err()
}

// connect brings overlay and routes to what mode and peers say.
func (b *Bridge) connect() error {
	if b.peers == nil {
		return nil
	}
	peers, err := acceptable(b.cfg, b.peers)
	var want map[netip.Prefix]route
	var errs error
	switch b.cfg.Mode {
	case VXLAN:
		want, errs = connectOverlay(b.cfg, peers)
	case Route:
		want, errs = neighbouring(peers)
	}
	err = errors.Join(err, errs, setRoutes(want))
	if b.cfg.Mode != VXLAN || len(peers) == 0 {
		err = errors.Join(err, removeOverlay())
	}
	return err
}

// acceptable drops peers whose range must not be routed: a range that is not the cluster's could catch foreign traffic,
// one that overlaps another would catch that node's.
func acceptable(c Config, peers []Peer) ([]Peer, error) {
	var out []Peer
	var errs []error
	peers = slices.Clone(peers)
	slices.SortFunc(peers, func(a, b Peer) int { return a.PodCIDR.Addr().Compare(b.PodCIDR.Addr()) })
	for _, p := range peers {
		p.PodCIDR = p.PodCIDR.Masked()
		inCluster := c.ClusterCIDR.Contains(p.PodCIDR.Addr()) && p.PodCIDR.Bits() >= c.ClusterCIDR.Bits()
		overlaps := p.PodCIDR.Overlaps(c.PodCIDR) || len(out) > 0 && out[len(out)-1].PodCIDR.Overlaps(p.PodCIDR)
		switch {
		case !p.Address.Is4() || !inCluster:
			errs = append(errs, fmt.Errorf("node %s (%s): its pod range %s is not within the cluster's %s", p.Name, p.Address, p.PodCIDR, c.ClusterCIDR))
		case overlaps:
			errs = append(errs, fmt.Errorf("node %s: its pod range %s overlaps another node's", p.Name, p.PodCIDR))
		case p.Address == c.NodeIP:
			errs = append(errs, fmt.Errorf("node %s: its address %s is this node's", p.Name, p.Address))
		default:
			out = append(out, p)
		}
	}
	return out, errors.Join(errs...)
}

// neighbouring finds the link on which each peer lies.
func neighbouring(peers []Peer) (map[netip.Prefix]route, error) {
	want := map[netip.Prefix]route{}
	var errs []error
	for _, p := range peers {
		ways, err := netlink.RouteGet(p.Address.AsSlice())
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("node %s: no route to %s: %w", p.Name, p.Address, err))
		case len(ways) == 0 || len(ways[0].Gw) > 0:
			errs = append(errs, fmt.Errorf("node %s: %s is not on a link of this node, so its pods cannot be routed to; use --network-mode=vxlan", p.Name, p.Address))
		default:
			want[p.PodCIDR] = route{via: p.Address, link: ways[0].LinkIndex}
		}
	}
	return want, errors.Join(errs...)
}

// setRoutes makes our routes those of want.
func setRoutes(want map[netip.Prefix]route) error {
	have, err := ourRoutes()
	if err != nil {
		return err
	}
	set, gone := diffRoutes(have, want)
	var errs []error
	for _, dst := range gone {
		if err := netlink.RouteDel(kernelRoute(dst, have[dst])); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route to %s: %w", dst, err))
		}
	}
	for _, dst := range set {
		if err := netlink.RouteReplace(kernelRoute(dst, want[dst])); err != nil {
			errs = append(errs, fmt.Errorf("add route to %s via %s: %w", dst, want[dst].via, err))
		}
	}
	return errors.Join(errs...)
}

// diffRoutes says which routes of want are to be set and which of have are to go.
func diffRoutes(have, want map[netip.Prefix]route) (set, gone []netip.Prefix) {
	for _, dst := range sortedRanges(want) {
		if h, ok := have[dst]; !ok || h != want[dst] {
			set = append(set, dst)
		}
	}
	for _, dst := range sortedRanges(have) {
		if _, ok := want[dst]; !ok {
			gone = append(gone, dst)
		}
	}
	return set, gone
}

func sortedRanges[V any](m map[netip.Prefix]V) []netip.Prefix {
	return slices.SortedFunc(maps.Keys(m), func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
}

func kernelRoute(dst netip.Prefix, r route) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(dst), Gw: r.via.AsSlice(), LinkIndex: r.link, Protocol: protocol, Flags: int(netlink.FLAG_ONLINK),
	}
}

// ourRoutes reads the routes that carry our mark.
func ourRoutes() (map[netip.Prefix]route, error) {
	list, err := retry(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	out := map[netip.Prefix]route{}
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		dst, err := netip.ParsePrefix(r.Dst.String())
		if err != nil {
			continue
		}
		via, _ := netip.AddrFromSlice(r.Gw)
		out[dst] = route{via: via.Unmap(), link: r.LinkIndex}
	}
	return out, nil
}
