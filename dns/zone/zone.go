// Package zone is the cluster's names as one immutable value.
//
// A [Zone] is made from the one before it and the services that changed. What did not change is shared between the two, so an update costs as
// much as its change and readers never wait: they hold a zone, and it stays as it is. The package knows nothing of DNS messages; package
// answer does.
package zone

import (
	"net/netip"
	"slices"
	"strings"
)

// Key names a service.
type Key struct{ Namespace, Name string }

// Service is what the names of one Service lead to. It is immutable once it is in a zone.
type Service struct {
	Key
	// External, if set, is another name (ending in a dot) that stands for the service. Everything below is then empty.
	External string
	// Headless services have no address of their own: their name leads to the endpoints.
	Headless  bool
	Addrs     []netip.Addr // cluster IPs
	Ports     []Port       // of the service; a headless service has those of its endpoints
	Endpoints []Endpoint   // of headless services only, ready ones, ordered by address
}

// Port is a named port.
type Port struct {
	Name  string // lower case; never empty
	Proto string // tcp, udp, sctp
	Port  uint16
}

// Endpoint is one address behind a headless service.
type Endpoint struct {
	Addr netip.Addr
	// Host is the label under the service's name, lower case: the pod's hostname, or the address with dashes.
	Host string
	// Named is true if Host is the pod's hostname; only then does the address lead back to the name.
	Named bool
	Ports []Port
}

// Zone is all names of the cluster at one moment. The zero value is not usable; start with [New].
type Zone struct {
	// Domain is the cluster domain in lower case, ending in a dot.
	Domain string
	// Serial is the SOA serial: it grows with each update.
	Serial uint32
	// Synced is false until the API has told all there is: names that are missing then may exist.
	Synced bool
	// Says is how the names are answered.
	Says Options

	services   shards[*Service]
	namespaces shards[struct{}]
	reverse    shards[[]string] // by address as text
	pods       shards[struct{}] // by pod; empty unless pod records are verified
}

// Options are what the configuration says of the cluster's names.
type Options struct {
	TTL  uint32 // in seconds
	Pods PodRecords
}

// PodRecords says how 1-2-3-4.namespace.pod is answered.
type PodRecords int

// Pod records are answered from the name alone, if there is such a pod, or not at all.
const (
	PodsInsecure PodRecords = iota
	PodsVerified
	PodsOff
)

// Pod is an address that pods of a namespace have.
type Pod struct {
	Namespace string
	Addr      netip.Addr
}

func (p Pod) key() string { return p.Namespace + "/" + p.Addr.String() }

// DefaultTTL is how long others may remember a record, in seconds. Changes reach this daemon within milliseconds, and clients within this time.
const DefaultTTL = 5

// New is the empty zone of a domain, which may end in a dot or not.
func New(domain string) *Zone {
	return &Zone{Domain: strings.ToLower(strings.TrimSuffix(domain, ".")) + ".", Says: Options{TTL: DefaultTTL}}
}

// With is the same names under other options.
func (z *Zone) With(o Options) *Zone {
	next := *z
	next.Says = o
	return &next
}

// Changes are what an update brings.
type Changes struct {
	Services   map[Key]*Service // nil: the service is gone
	Namespaces map[string]bool  // false: the namespace is gone
	Pods       map[Pod]bool     // false: no pod has the address any more
	Serial     uint32
	Synced     bool
}

// Update makes the next zone. The old one stays as it was.
func (z *Zone) Update(c Changes) *Zone {
	next := &Zone{Domain: z.Domain, Serial: c.Serial, Synced: c.Synced, Says: z.Says}
	services, namespaces, reverse, pods := z.services.edit(), z.namespaces.edit(), z.reverse.edit(), z.pods.edit()
	for key, s := range c.Services {
		name := key.Name + "." + key.Namespace
		if old, ok := services.get(name); ok {
			for _, p := range z.pointers(old) {
				names, _ := reverse.get(p.addr)
				names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == p.name })
				if len(names) == 0 {
					reverse.delete(p.addr)
				} else {
					reverse.set(p.addr, names)
				}
			}
			services.delete(name)
		}
		if s == nil {
			continue
		}
		services.set(name, s)
		for _, p := range z.pointers(s) {
			names, _ := reverse.get(p.addr)
			names = append(slices.Clone(names), p.name)
			slices.Sort(names)
			reverse.set(p.addr, slices.Compact(names))
		}
	}
	for name, exists := range c.Namespaces {
		if exists {
			namespaces.set(name, struct{}{})
		} else {
			namespaces.delete(name)
		}
	}
	for p, exists := range c.Pods {
		if exists {
			pods.set(p.key(), struct{}{})
		} else {
			pods.delete(p.key())
		}
	}
	next.services, next.namespaces, next.reverse, next.pods = services.done(), namespaces.done(), reverse.done(), pods.done()
	return next
}

type pointer struct{ addr, name string }

// pointers are the addresses that lead back to names of a service.
func (z *Zone) pointers(s *Service) []pointer {
	var out []pointer
	name := s.Name + "." + s.Namespace + ".svc." + z.Domain
	for _, a := range s.Addrs {
		out = append(out, pointer{a.String(), name})
	}
	for _, e := range s.Endpoints {
		if e.Named {
			out = append(out, pointer{e.Addr.String(), e.Host + "." + name})
		}
	}
	return out
}

// Service finds a service; both names are in lower case.
func (z *Zone) Service(namespace, name string) (*Service, bool) {
	return z.services.get(name + "." + namespace)
}

// Namespace reports whether a namespace exists.
func (z *Zone) Namespace(name string) bool {
	_, ok := z.namespaces.get(name)
	return ok
}

// Pod reports whether a pod is known.
func (z *Zone) Pod(p Pod) bool {
	_, ok := z.pods.get(p.key())
	return ok
}

// Reverse finds the names of an address, ending in dots.
func (z *Zone) Reverse(a netip.Addr) []string {
	names, _ := z.reverse.get(a.String())
	return names
}

// Len is the number of services.
func (z *Zone) Len() int { return z.services.len() }
