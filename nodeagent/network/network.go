// Package network connects pods with each other, with their node and with the world. On every node there is one bridge
// that owns the first address of the node's pod range; a pod has one end of a veth pair as eth0 with an address of that
// range and a default route to the bridge. A pod's address has no subnet, so even traffic between two pods of one node is
// routed by the node: whatever the node's firewall translates on the way there it also sees on the way back, whether or
// not the kernel shows bridged packets to the firewall (net.bridge.bridge-nf-call-iptables). Traffic that leaves the
// cluster gets the node's address. Pods of other nodes are reached through an overlay or by plain routes, made from the
// Node objects alone (SetPeers); both ends see each other's own address.
//
// What is kept on disk is one file per address in use and one per pod, each written in one step; links and rules are
// derived from them and can always be made again. All names are ours: the bridge, links starting with "hw", routes with
// protocol 72, the nftables table hardway-pods. Teardown removes them and restores the kernel settings that were changed.
package network

import (
	"context"
	"errors"
	"net/netip"
)

// Attacher gives pods their network.
type Attacher interface {
	// Attach connects the pod's network namespace and returns its addresses. It may be repeated; the address stays.
	Attach(ctx context.Context, p Pod) ([]netip.Addr, error)
	// Detach takes the connection away and frees the address for later use. A pod that has none is no error.
	Detach(ctx context.Context, uid string) error
}

// Pod is what the network must know about a pod.
type Pod struct {
	UID       string
	Name      string // namespace/name, for messages
	NetNS     string // path of its network namespace
	HostPorts []HostPort
}

// HostPort sends a port of the node to a port of the pod.
type HostPort struct {
	HostIP                  netip.Addr // invalid: every address of the node
	HostPort, ContainerPort uint16
	Protocol                string // TCP, UDP or SCTP
}

// Config is what the node's network looks like.
type Config struct {
	PodCIDR     netip.Prefix // of this node, IPv4
	ClusterCIDR netip.Prefix // of all pods; traffic to it keeps the pod's address
	Bridge      string       // name of the bridge; empty: hw0
	NodeIP      netip.Addr   // where other nodes reach this one
	Mode        Mode         // how pods of other nodes are reached; empty: VXLAN
	MTU         int          // of every pod link; 0: what fits through the link that has NodeIP
}

// ErrNotReady says that the node has no pod range yet, so Setup was not called.
var ErrNotReady = errors.New("the node's pod network is not set up yet: it has no pod CIDR")
