// Package conntrack ends UDP flows that the kernel would go on sending to endpoints that are gone.
//
// Conntrack remembers where the first packet of a flow went, and sends the rest there. A TCP client notices a dead endpoint and connects anew;
// a UDP client that keeps its port never does. So whenever a UDP address of a service loses an endpoint, appears or disappears, the flows to
// that address that do not lead to a current endpoint are deleted; their next packet chooses again. All other flows, and all of TCP, are left
// alone: nothing is ever flushed.
package conntrack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"hardway/netproxy/plan"
)

// Tries bounds how often an interrupted look at the table is repeated.
const tries = 3

// Cleaner deletes flows in one network namespace.
type Cleaner struct{ handle *netlink.Handle }

// Open makes a cleaner for a network namespace, given as a file descriptor, or 0 for the caller's.
func Open(ns int) (*Cleaner, error) {
	var handle *netlink.Handle
	var err error
	if ns == 0 {
		handle, err = netlink.NewHandle(unix.NETLINK_NETFILTER, unix.NETLINK_ROUTE)
	} else {
		handle, err = netlink.NewHandleAt(netns.NsHandle(ns), unix.NETLINK_NETFILTER, unix.NETLINK_ROUTE)
	}
	if err != nil {
		return nil, fmt.Errorf("open netlink for conntrack: %w", err)
	}
	return &Cleaner{handle}, nil
}

// Close closes the socket.
func (c *Cleaner) Close() { c.handle.Close() }

// Clean deletes the stale flows among those that are given and says how many there were. It looks through the conntrack table once, however
// many flows are given.
func (c *Cleaner) Clean(flows []plan.Flow) (int, error) {
	total := 0
	var failures []error
	for _, family := range []plan.Family{plan.IPv4, plan.IPv6} {
		stale, err := c.filter(family, flows)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if stale.empty() {
			continue
		}
		n, err := c.delete(family, stale)
		total += n
		failures = append(failures, err)
	}
	return total, errors.Join(failures...)
}

func (c *Cleaner) delete(family plan.Family, stale *filter) (int, error) {
	kind := netlink.InetFamily(unix.AF_INET)
	if family == plan.IPv6 {
		kind = unix.AF_INET6
	}
	total := 0
	var err error
	for range tries {
		var n uint
		n, err = c.handle.ConntrackDeleteFilters(netlink.ConntrackTable, kind, stale)
		total += int(n)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return total, fmt.Errorf("delete stale UDP flows of IPv%d: %w", family, err)
	}
	return total, nil
}

// filter picks stale flows of one family.
type filter struct {
	addresses map[netip.AddrPort]map[netip.AddrPort]bool // of services -> endpoints that are good
	nodePorts map[uint16]map[netip.AddrPort]bool
	node      map[netip.Addr]bool // addresses of this node; read only when there are node ports
}

func (f *filter) empty() bool { return len(f.addresses)+len(f.nodePorts) == 0 }

func (c *Cleaner) filter(family plan.Family, flows []plan.Flow) (*filter, error) {
	f := &filter{addresses: map[netip.AddrPort]map[netip.AddrPort]bool{}, nodePorts: map[uint16]map[netip.AddrPort]bool{},
		node: map[netip.Addr]bool{}}
	for _, flow := range flows {
		if flow.Family != family {
			continue
		}
		good := make(map[netip.AddrPort]bool, len(flow.Good))
		for _, to := range flow.Good {
			good[to] = true
		}
		if flow.Addr.IsValid() {
			f.addresses[netip.AddrPortFrom(flow.Addr, flow.Port)] = good
		} else {
			f.nodePorts[flow.Port] = good
		}
	}
	if len(f.nodePorts) == 0 {
		return f, nil
	}
	kind := netlink.FAMILY_V4
	if family == plan.IPv6 {
		kind = netlink.FAMILY_V6
	}
	addresses, err := c.handle.AddrList(nil, kind)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list the node's addresses: %w", err)
	}
	for _, a := range addresses {
		f.node[addr(a.IP)] = true
	}
	return f, nil
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter: a flow is stale if its client wrote to an address of a service and it is not
// one of the good endpoints that answers. That covers flows from before the address was a service's: nobody translated them.
func (f *filter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to := netip.AddrPortFrom(addr(flow.Forward.DstIP), flow.Forward.DstPort)
	good, ours := f.addresses[to]
	if !ours && f.node[to.Addr()] {
		good, ours = f.nodePorts[to.Port()]
	}
	return ours && !good[netip.AddrPortFrom(addr(flow.Reverse.SrcIP), flow.Reverse.SrcPort)]
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
