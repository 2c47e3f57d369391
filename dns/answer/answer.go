// Package answer works out what a zone says to a question, after the Kubernetes DNS specification 1.1.0.
//
// It is pure: a zone and a question in, a reply out. A name that exists but has no record of the type gets NOERROR without answers; a name that
// does not exist gets NXDOMAIN; both carry the SOA record, so that resolvers know how long to remember. A name exists, too, if there are names
// below it.
package answer

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"hardway/dns/zone"
)

// Version is what dns-version tells: the specification that the names follow.
const Version = "1.1.0"

// Reply is what the zone says.
type Reply struct {
	Rcode  int // dns.RcodeSuccess or dns.RcodeNameError
	Answer []dns.RR
	Extra  []dns.RR // addresses of SRV targets
	SOA    dns.RR   // set when there is no answer
	// Chase, if set, is the name that the last CNAME in Answer leads to: its records of the type asked for belong into the answer, too.
	Chase string
}

// Question is a question of class IN with its name in lower case, ending in a dot.
type Question struct {
	Name string
	Type uint16
}

// To answers a question. Not ours (false): the name is neither in the cluster domain nor the reverse name of an address that the zone knows.
func To(z *zone.Zone, q Question) (Reply, bool) {
	a := asker{z, q}
	if q.Name == z.Domain {
		return a.apex(), true
	}
	if below, ok := strings.CutSuffix(q.Name, "."+z.Domain); ok {
		return a.below(strings.Split(below, ".")), true
	}
	if addr, ok := addressOf(q.Name); ok {
		if names := z.Reverse(addr); len(names) > 0 {
			return a.pointers(names), true
		}
	}
	return Reply{}, false
}

type asker struct {
	zone *zone.Zone
	Question
}

// header is for records of the name that was asked for.
func (a asker) header(kind uint16) dns.RR_Header { return a.headerOf(a.Name, kind) }

func (a asker) headerOf(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: a.zone.Says.TTL}
}

// wants reports whether the question asks for a type.
func (a asker) wants(kind uint16) bool { return a.Type == kind || a.Type == dns.TypeANY }

// found is a reply with records, or NODATA without any.
func (a asker) found(records ...dns.RR) Reply {
	if len(records) == 0 {
		return Reply{Rcode: dns.RcodeSuccess, SOA: a.soa()}
	}
	return Reply{Rcode: dns.RcodeSuccess, Answer: records}
}

// missing is NXDOMAIN.
func (a asker) missing() Reply { return Reply{Rcode: dns.RcodeNameError, SOA: a.soa()} }

// exists is NODATA if the name exists, else NXDOMAIN.
func (a asker) exists(yes bool) Reply {
	if yes {
		return a.found()
	}
	return a.missing()
}

func (a asker) soa() dns.RR {
	return &dns.SOA{Hdr: a.headerOf(a.zone.Domain, dns.TypeSOA), Ns: "ns.dns." + a.zone.Domain, Mbox: "hostmaster." + a.zone.Domain, Serial: a.zone.Serial,
		Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: a.zone.Says.TTL}
}

// apex answers for the domain itself.
func (a asker) apex() Reply {
	var records []dns.RR
	if a.wants(dns.TypeSOA) {
		records = append(records, a.soa())
	}
	if a.wants(dns.TypeNS) {
		records = append(records, &dns.NS{Hdr: a.header(dns.TypeNS), Ns: "ns.dns." + a.zone.Domain})
	}
	return a.found(records...)
}

// below answers for names under the domain, given as labels.
func (a asker) below(labels []string) Reply {
	last := len(labels) - 1
	switch labels[last] {
	case "svc":
		return a.service(labels[:last])
	case "pod":
		return a.pod(labels[:last])
	case "dns-version":
		if last > 0 {
			return a.missing()
		}
		if a.wants(dns.TypeTXT) {
			return a.found(&dns.TXT{Hdr: a.header(dns.TypeTXT), Txt: []string{Version}})
		}
		return a.found()
	case "dns":
		// ns.dns is the name server that the SOA record tells: the service of this daemon.
		switch s, ok := a.zone.Service("kube-system", "kube-dns"); {
		case last == 0:
			return a.found()
		case last == 1 && labels[0] == "ns" && ok:
			return a.found(a.addresses(a.Name, s.Addrs)...)
		}
	}
	return a.missing()
}

// service answers for [[port protocol | endpoint] service] namespace .svc.
func (a asker) service(labels []string) Reply {
	n := len(labels)
	if n == 0 {
		return a.found()
	}
	namespace := labels[n-1]
	if n == 1 {
		return a.exists(a.zone.Namespace(namespace))
	}
	s, ok := a.zone.Service(namespace, labels[n-2])
	if !ok {
		return a.missing()
	}
	name := s.Name + "." + s.Namespace + ".svc." + a.zone.Domain
	switch {
	case n == 2 && s.External != "":
		reply := a.found(&dns.CNAME{Hdr: a.header(dns.TypeCNAME), Target: s.External})
		if a.Type != dns.TypeCNAME {
			reply.Chase = s.External
		}
		return reply
	case n == 2:
		return a.whole(s, name)
	case n == 3 && strings.HasPrefix(labels[0], "_"):
		return a.exists(hasProtocol(s, labels[0][1:]))
	case n == 3:
		return a.endpoint(s, labels[0])
	case n == 4 && strings.HasPrefix(labels[0], "_") && strings.HasPrefix(labels[1], "_"):
		return a.port(s, name, labels[0][1:], labels[1][1:])
	}
	return a.missing()
}

// whole answers for the name of a service.
func (a asker) whole(s *zone.Service, name string) Reply {
	if a.Type == dns.TypeSRV {
		reply, _ := a.srv(s, name, func(zone.Port) bool { return true })
		return reply
	}
	addrs := s.Addrs
	if s.Headless {
		addrs = make([]netip.Addr, 0, len(s.Endpoints))
		for i, e := range s.Endpoints {
			if i == 0 || e.Addr != s.Endpoints[i-1].Addr {
				addrs = append(addrs, e.Addr)
			}
		}
	}
	return a.found(a.addresses(a.Name, addrs)...)
}

// endpoint answers for one endpoint of a headless service.
func (a asker) endpoint(s *zone.Service, host string) Reply {
	var addrs []netip.Addr
	for _, e := range s.Endpoints {
		if e.Host == host {
			addrs = append(addrs, e.Addr)
		}
	}
	if len(addrs) == 0 {
		return a.missing()
	}
	return a.found(a.addresses(a.Name, addrs)...)
}

// port answers for a named port.
func (a asker) port(s *zone.Service, name, port, proto string) Reply {
	reply, exists := a.srv(s, name, func(p zone.Port) bool { return p.Name == port && p.Proto == proto })
	if !exists {
		return a.missing()
	}
	if !a.wants(dns.TypeSRV) {
		return a.found()
	}
	return reply
}

// srv makes SRV records for the ports that are wanted, with the addresses of their targets, and reports whether there is any such port.
func (a asker) srv(s *zone.Service, name string, wanted func(zone.Port) bool) (Reply, bool) {
	type target struct {
		name  string
		port  uint16
		addrs []netip.Addr
	}
	var targets []target
	for _, p := range s.Ports {
		if wanted(p) {
			targets = append(targets, target{name, p.Port, s.Addrs})
		}
	}
	for _, e := range s.Endpoints {
		for _, p := range e.Ports {
			if wanted(p) {
				targets = append(targets, target{e.Host + "." + name, p.Port, []netip.Addr{e.Addr}})
			}
		}
	}
	reply := a.found()
	seen := map[string]bool{}
	for _, t := range targets {
		reply.SOA = nil
		reply.Answer = append(reply.Answer, &dns.SRV{Hdr: a.header(dns.TypeSRV), Weight: uint16(max(1, 100/len(targets))), Port: t.port, Target: t.name})
		for _, addr := range t.addrs {
			if key := t.name + addr.String(); !seen[key] {
				seen[key] = true
				reply.Extra = append(reply.Extra, a.address(t.name, addr))
			}
		}
	}
	return reply, len(targets) > 0
}

func hasProtocol(s *zone.Service, proto string) bool {
	for _, p := range s.Ports {
		if p.Proto == proto {
			return true
		}
	}
	for _, e := range s.Endpoints {
		for _, p := range e.Ports {
			if p.Proto == proto {
				return true
			}
		}
	}
	return false
}

// pod answers for 1-2-3-4.namespace.pod. The address is in the name; whether a pod has it is looked at if the zone says so.
func (a asker) pod(labels []string) Reply {
	switch {
	case a.zone.Says.Pods == zone.PodsOff:
		return a.missing()
	case len(labels) == 0:
		return a.found()
	case len(labels) > 2 || !a.zone.Namespace(labels[len(labels)-1]):
		return a.missing()
	case len(labels) == 1:
		return a.found()
	}
	addr, err := netip.ParseAddr(strings.ReplaceAll(labels[0], "-", "."))
	if err != nil {
		addr, err = netip.ParseAddr(strings.ReplaceAll(labels[0], "-", ":"))
	}
	if err != nil || a.zone.Says.Pods == zone.PodsVerified && !a.zone.Pod(zone.Pod{Namespace: labels[1], Addr: addr}) {
		return a.missing()
	}
	return a.found(a.addresses(a.Name, []netip.Addr{addr})...)
}

func (a asker) pointers(names []string) Reply {
	if !a.wants(dns.TypePTR) {
		return a.found()
	}
	var records []dns.RR
	for _, n := range names {
		records = append(records, &dns.PTR{Hdr: a.header(dns.TypePTR), Ptr: n})
	}
	return a.found(records...)
}

// addresses makes the records of the type asked for.
func (a asker) addresses(name string, addrs []netip.Addr) []dns.RR {
	var records []dns.RR
	for _, addr := range addrs {
		if addr.Is4() && a.wants(dns.TypeA) || addr.Is6() && a.wants(dns.TypeAAAA) {
			records = append(records, a.address(name, addr))
		}
	}
	return records
}

func (a asker) address(name string, addr netip.Addr) dns.RR {
	if addr.Is4() {
		return &dns.A{Hdr: a.headerOf(name, dns.TypeA), A: addr.AsSlice()}
	}
	return &dns.AAAA{Hdr: a.headerOf(name, dns.TypeAAAA), AAAA: addr.AsSlice()}
}
