// Package state turns the API's Services, EndpointSlices and this node's Node object into the plain facts that package plan works on.
//
// It reads informers and writes nothing. [Tracker] remembers which services changed since the last look and hands them out in one piece, so a
// burst of events becomes one step and a single event waits for nothing. Facts are values: whoever holds one may keep it, and nobody changes it.
package state

import (
	"net/netip"
	"time"
)

// Name identifies a Service.
type Name struct{ Namespace, Name string }

// String is "namespace/name".
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Protocol is an IP protocol number, as in the IP header.
type Protocol uint8

// The protocols a Service may use.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is the lower-case name that nft prints.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return "unknown"
}

// Service holds what a Service asks of a node. Headless, ExternalName and foreign (service-proxy-name) services never become one.
type Service struct {
	Name    Name
	Created time.Time // settles who keeps an address that two services claim: the older one

	Ports      []Port
	ClusterIPs []netip.Addr
	// ExternalIPs are addresses outside the cluster that lead to the service: status.loadBalancer ingress addresses and, where
	// the operator allowed them, spec.externalIPs.
	ExternalIPs []netip.Addr
	// LoadBalancerIPs are those of them that the load balancer gave: some node has to answer for them.
	LoadBalancerIPs []netip.Addr
	// SourceRanges, if any, are the only clients that may use the load balancer addresses.
	SourceRanges []netip.Prefix

	Affinity       time.Duration // how long a client keeps its endpoint; 0 means no session affinity
	InternalLocal  bool          // internalTrafficPolicy: Local
	ExternalLocal  bool          // externalTrafficPolicy: Local
	PreferSameNode bool          // trafficDistribution: PreferSameNode
	HealthPort     uint16        // healthCheckNodePort; 0 means none
}

// Port is one port of a Service.
type Port struct {
	Name     string // matches the port of the same name in the slices
	Protocol Protocol
	Port     uint16
	NodePort uint16 // 0 means none
}

// Slice holds what one EndpointSlice says.
type Slice struct {
	Ports     []SlicePort
	Endpoints []Endpoint
}

// SlicePort is the port that every endpoint of a slice listens on for the service port of that name.
type SlicePort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}

// Endpoint is one address of a slice.
type Endpoint struct {
	Addr        netip.Addr
	Node        string // the node it runs on; empty if unknown
	Ready       bool   // takes new connections
	Serving     bool   // answers, though it may be on its way out
	Terminating bool
	ForNodes    []string // hints: the nodes that should use it
	ForZones    []string // hints: the zones that should use it
}

// Facts is everything known about one service. Deleted services are the zero Facts.
type Facts struct {
	Service *Service // nil: there is no such service, or none for this proxy
	Slices  []Slice  // ordered by slice name
}

// Node is what the proxy knows about its own node.
type Node struct {
	Name      string
	Zone      string
	Addresses []netip.Addr // InternalIP and ExternalIP addresses, in the order of the Node object
	// Leaving is true while the Node is being deleted or a cluster autoscaler is about to remove it: load balancers should look elsewhere.
	Leaving bool
	// Announces is true while the node may answer for addresses of load balancers: it is ready, stays, and is not excluded from that.
	Announces bool
}

// Change is one service that changed, with all that is known about it now.
type Change struct {
	Name  Name
	Facts Facts
	// Triggered is when the oldest API change behind this one was made, as the endpoints' annotation tells it; zero if unknown.
	Triggered time.Time
}

// Changes is one step: everything that changed since the last one.
type Changes struct {
	Services []Change
	Node     *Node // nil: unchanged
}
