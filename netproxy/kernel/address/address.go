// Package address holds addresses of load balancers on a link of this machine and tells the neighbours about them.
//
// An address is held for a few seconds at a time: who stops holding it, dead or frozen, has it taken away by the kernel. While it is held, the
// kernel answers ARP and neighbour solicitations for it. Nothing is left behind that would have to be cleaned up.
package address

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is a link of this machine. It is safe for concurrent use.
type Link struct {
	handle *netlink.Handle
	link   netlink.Link
	socket int // for packets of our own making
}

// Open finds the link with this name or, if the name is an address, the one that has it, in the caller's network namespace.
func Open(name string) (*Link, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	link, err := find(h, name)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // protocol 0: it only sends
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	return &Link{h, link, socket}, nil
}

func find(h *netlink.Handle, name string) (netlink.Link, error) {
	want, err := netip.ParseAddr(name)
	if err != nil {
		return h.LinkByName(name)
	}
	addresses, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		if is, _ := netip.AddrFromSlice(a.IP); is.Unmap() == want {
			return h.LinkByIndex(a.LinkIndex)
		}
	}
	return nil, errors.New("no link has this address")
}

// Name is the link's name.
func (l *Link) Name() string { return l.link.Attrs().Name }

// Close closes the sockets. Addresses run out.
func (l *Link) Close() {
	l.handle.Close()
	_ = unix.Close(l.socket)
}

// Hold adds an address to the link for some whole seconds, or makes it stay that long from now.
func (l *Link) Hold(a netip.Addr, stay time.Duration) error {
	// Deprecated at once: no connection of the machine itself shall start from it. For IPv6, there is nobody to ask whether it is taken.
	err := l.handle.AddrReplace(l.link, &netlink.Addr{IPNet: single(a), ValidLft: int(stay.Seconds()), PreferedLft: 0,
		Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE})
	if err != nil {
		return fmt.Errorf("hold address %s on %s: %w", a, l.Name(), err)
	}
	return nil
}

// Drop takes an address away from the link. One that is not there is no error.
func (l *Link) Drop(a netip.Addr) error {
	if err := l.handle.AddrDel(l.link, &netlink.Addr{IPNet: single(a)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("drop address %s from %s: %w", a, l.Name(), err)
	}
	return nil
}

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// Announce tells all neighbours that the address is here now, so that those who remember another machine forget it.
func (l *Link) Announce(a netip.Addr) error {
	own := l.link.Attrs().HardwareAddr
	if len(own) != 6 {
		return nil // no neighbours to tell
	}
	frame, protocol := arp(own, a), uint16(unix.ETH_P_ARP)
	if a.Is6() {
		frame, protocol = advertisement(own, a), unix.ETH_P_IPV6
	}
	to := &unix.SockaddrLinklayer{Ifindex: l.link.Attrs().Index, Protocol: protocol<<8 | protocol>>8, Halen: 6}
	copy(to.Addr[:], frame[:6])
	if err := unix.Sendto(l.socket, frame, 0, to); err != nil {
		return fmt.Errorf("announce %s on %s: %w", a, l.Name(), err)
	}
	return nil
}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// arp is a gratuitous ARP request (RFC 5227 3): from the address to the address.
func arp(own net.HardwareAddr, a netip.Addr) []byte {
	frame := ethernet(broadcast, own, unix.ETH_P_ARP)
	frame = append(frame, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, their lengths, request
	frame = append(append(frame, own...), a.AsSlice()...)
	return append(append(frame, 0, 0, 0, 0, 0, 0), a.AsSlice()...)
}

// advertisement is an unsolicited neighbour advertisement (RFC 4861 7.2.6) that overrides what neighbours know.
func advertisement(own net.HardwareAddr, a netip.Addr) []byte {
	all := netip.MustParseAddr("ff02::1")
	message := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, a.AsSlice()...)
	message = append(append(message, 2, 1), own...) // option: the target's link-layer address
	pseudo := append(append(a.AsSlice(), all.AsSlice()...), 0, 0, 0, byte(len(message)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(message[2:], checksum(append(pseudo, message...)))
	frame := ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, own, unix.ETH_P_IPV6)
	frame = append(frame, 0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255)
	return append(append(append(frame, a.AsSlice()...), all.AsSlice()...), message...)
}

func ethernet(to, from net.HardwareAddr, protocol uint16) []byte {
	return binary.BigEndian.AppendUint16(append(append([]byte{}, to...), from...), protocol)
}

// checksum is the Internet's (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
