package state

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// Policy is what a NetworkPolicy says. A direction that it does not name is nil: there it isolates nobody.
type Policy struct {
	Pods            labels.Selector // of its own namespace
	Ingress, Egress *[]PolicyRule
}

// PolicyRule allows connections between the selected pods and any of the peers, to any of the ports.
type PolicyRule struct {
	Peers []PolicyPeer // empty: everybody
	Ports []PolicyPort // empty: all ports of all protocols
}

// PolicyPeer is the other end: pods, or a block of addresses.
type PolicyPeer struct {
	Namespaces labels.Selector // nil: the policy's own
	Pods       labels.Selector // nil: this is a block
	Block      netip.Prefix
	Except     []netip.Prefix // parts of the block that are not meant
}

// PolicyPort is a range of ports, or the port of the destination that has this name.
type PolicyPort struct {
	Protocol Protocol
	Name     string
	From, To uint16
}

// Pod is what policies need to know of a pod: it has addresses of its own (those of the node count as the node), and has not ended.
type Pod struct {
	Created time.Time // where two pods claim one address, the younger has it: the other is about to go
	Addrs   []netip.Addr
	Node    string
	Labels  labels.Set
	Ports   []PodPort // those with names
}

// PodPort is a named port of a pod's containers.
type PodPort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}

// PolicyChanges is what changed around network policies since the last step. A nil pointer: it is gone.
type PolicyChanges struct {
	Policies   map[Name]*Policy
	Pods       map[Name]*Pod
	Namespaces map[string]*labels.Set
}

// Empty reports whether nothing changed.
func (c PolicyChanges) Empty() bool { return len(c.Policies)+len(c.Pods)+len(c.Namespaces) == 0 }
