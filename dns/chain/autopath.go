package chain

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"hardway/dns/zone"
)

// autopathTTL bounds how long such an answer is remembered: a service that is created meanwhile comes first on the search path.
const autopathTTL = 5 * time.Second

// Autopath answers the first question of a client that goes through its search path with what the last would have found.
//
// A pod of namespace ns asks for name.ns.svc.<domain> first. Where the cluster knows no such name, the rest of the path is tried here, and the
// answer is a CNAME to the name that exists: one question instead of ten. The namespace is in the question, so nothing need be known about pods.
type Autopath struct {
	Zone    *atomic.Pointer[zone.Zone]
	Cluster *Cluster
	Search  []string // further domains of the search path, each ending in a dot
	Next    Handler  // the chain without Autopath
}

// applies reports whether an answer of the cluster is a denial that the search path goes on after.
func (a *Autopath) applies(z *zone.Zone, name string, kind uint16, is Answer) bool {
	if a == nil || kind != dns.TypeA && kind != dns.TypeAAAA || is.Msg == nil || is.Msg.Rcode != dns.RcodeNameError {
		return false
	}
	_, ok := a.split(z, name)
	return ok
}

// split takes the client's search path off a name.
func (a *Autopath) split(z *zone.Zone, name string) (rest string, ok bool) {
	below, ok := strings.CutSuffix(name, ".svc."+z.Domain)
	if !ok {
		return "", false
	}
	at := strings.LastIndexByte(below, '.')
	if at < 1 || !z.Namespace(below[at+1:]) || strings.HasPrefix(below, "_") {
		return "", false
	}
	return below[:at+1], true
}

// Handle implements Handler.
func (a *Autopath) Handle(ctx context.Context, q Question) (Answer, error) {
	z := a.Zone.Load()
	first, chase, err := a.Cluster.At(z, q)
	if err != nil || chase != "" || !a.applies(z, q.Name, q.Type, first) {
		return Answer{}, ErrNotMine
	}
	rest, _ := a.split(z, q.Name)
	for _, domain := range append([]string{"svc." + z.Domain, z.Domain}, append(a.Search, "")...) {
		next := q
		next.Name = rest + domain
		found, err := a.Next.Handle(ctx, next)
		if err != nil || found.Msg.Rcode != dns.RcodeSuccess && found.Msg.Rcode != dns.RcodeNameError {
			return first, nil //nolint:nilerr // the client goes on by itself, and meets the failure where it belongs
		}
		if found.Msg.Rcode == dns.RcodeNameError || len(found.Msg.Answer) == 0 && a.between(z, next) {
			continue
		}
		m := Reply(q, dns.RcodeSuccess)
		ttl := uint32(autopathTTL / time.Second)
		m.Answer = append([]dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttl}, Target: next.Name}},
			found.Msg.Answer...)
		m.Ns = found.Msg.Ns
		return Answer{Msg: m, By: found.By, TTL: autopathTTL}, nil
	}
	first.TTL = autopathTTL // it depends on more than the zone
	return first, nil
}

// between reports whether a name of the cluster has no address of either family: it only has names below it, and clients go on after such.
func (a *Autopath) between(z *zone.Zone, q Question) bool {
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		q.Type = kind
		if is, chase, err := a.Cluster.At(z, q); err != nil || chase != "" || len(is.Msg.Answer) > 0 {
			return false
		}
	}
	return true
}
