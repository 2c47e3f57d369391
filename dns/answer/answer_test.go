package answer

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"hardway/dns/zone"
)

// testZone has one of everything.
func testZone() *zone.Zone {
	addr := netip.MustParseAddr
	http := zone.Port{Name: "http", Proto: "tcp", Port: 8080}
	services := []*zone.Service{
		{Key: zone.Key{Namespace: "default", Name: "web"}, Addrs: []netip.Addr{addr("10.32.0.20"), addr("fd00::20")},
			Ports: []zone.Port{{Name: "http", Proto: "tcp", Port: 80}, {Name: "dns", Proto: "udp", Port: 53}}},
		{Key: zone.Key{Namespace: "default", Name: "plain"}, Addrs: []netip.Addr{addr("10.32.0.21")}},
		{Key: zone.Key{Namespace: "default", Name: "db"}, Headless: true, Endpoints: []zone.Endpoint{
			{Addr: addr("10.200.0.5"), Host: "db-0", Named: true, Ports: []zone.Port{http}},
			{Addr: addr("10.200.0.6"), Host: "10-200-0-6", Ports: []zone.Port{http}},
			{Addr: addr("fd00::6"), Host: "db-1", Named: true, Ports: []zone.Port{http}}}},
		{Key: zone.Key{Namespace: "default", Name: "empty"}, Headless: true},
		{Key: zone.Key{Namespace: "default", Name: "away"}, External: "www.example.com."},
		{Key: zone.Key{Namespace: "kube-system", Name: "kube-dns"}, Addrs: []netip.Addr{addr("10.32.0.10")}},
	}
	c := zone.Changes{Services: map[zone.Key]*zone.Service{}, Namespaces: map[string]bool{"default": true, "kube-system": true, "bare": true}, Serial: 7, Synced: true}
	for _, s := range services {
		c.Services[s.Key] = s
	}
	return zone.New("Cluster.local").Update(c)
}

func TestAnswers(t *testing.T) {
	z := testZone()
	for _, test := range []struct {
		name, question string
		kind           uint16
		want           string // answers; "NODATA"; "NXDOMAIN"; "not ours"
	}{
		{"a service", "web.default.svc.cluster.local.", dns.TypeA, "web.default.svc.cluster.local. 5 IN A 10.32.0.20"},
		{"its IPv6 address", "web.default.svc.cluster.local.", dns.TypeAAAA, "web.default.svc.cluster.local. 5 IN AAAA fd00::20"},
		{"a service without IPv6", "plain.default.svc.cluster.local.", dns.TypeAAAA, "NODATA"},
		{"a type that services do not have", "web.default.svc.cluster.local.", dns.TypeMX, "NODATA"},
		{"no such service", "wep.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"no such namespace", "web.nowhere.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"a namespace", "default.svc.cluster.local.", dns.TypeA, "NODATA"},
		{"a namespace without services", "bare.svc.cluster.local.", dns.TypeA, "NODATA"},
		{"no namespace", "nowhere.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"svc", "svc.cluster.local.", dns.TypeA, "NODATA"},
		{"all addresses", "web.default.svc.cluster.local.", dns.TypeANY,
			"web.default.svc.cluster.local. 5 IN A 10.32.0.20; web.default.svc.cluster.local. 5 IN AAAA fd00::20"},
		{"a named port", "_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV,
			"_http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 100 80 web.default.svc.cluster.local.; + web.default.svc.cluster.local. 5 IN A 10.32.0.20; " +
				"+ web.default.svc.cluster.local. 5 IN AAAA fd00::20"},
		{"a port asked for by another type", "_http._tcp.web.default.svc.cluster.local.", dns.TypeA, "NODATA"},
		{"a port under the wrong protocol", "_http._udp.web.default.svc.cluster.local.", dns.TypeSRV, "NXDOMAIN"},
		{"above a port", "_tcp.web.default.svc.cluster.local.", dns.TypeSRV, "NODATA"},
		{"above no port", "_sctp.web.default.svc.cluster.local.", dns.TypeSRV, "NXDOMAIN"},
		{"a port without a name", "_http._tcp.plain.default.svc.cluster.local.", dns.TypeSRV, "NXDOMAIN"},
		{"all ports", "web.default.svc.cluster.local.", dns.TypeSRV,
			"web.default.svc.cluster.local. 5 IN SRV 0 50 80 web.default.svc.cluster.local.; web.default.svc.cluster.local. 5 IN SRV 0 50 53 web.default.svc.cluster.local.; " +
				"+ web.default.svc.cluster.local. 5 IN A 10.32.0.20; + web.default.svc.cluster.local. 5 IN AAAA fd00::20"},
		{"a headless service", "db.default.svc.cluster.local.", dns.TypeA, "db.default.svc.cluster.local. 5 IN A 10.200.0.5; db.default.svc.cluster.local. 5 IN A 10.200.0.6"},
		{"an endpoint with a hostname", "db-0.db.default.svc.cluster.local.", dns.TypeA, "db-0.db.default.svc.cluster.local. 5 IN A 10.200.0.5"},
		{"an endpoint by its address", "10-200-0-6.db.default.svc.cluster.local.", dns.TypeA, "10-200-0-6.db.default.svc.cluster.local. 5 IN A 10.200.0.6"},
		{"an endpoint of the other family", "db-1.db.default.svc.cluster.local.", dns.TypeA, "NODATA"},
		{"no such endpoint", "db-7.db.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"below an endpoint", "x.db-0.db.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"a headless service without endpoints", "empty.default.svc.cluster.local.", dns.TypeA, "NODATA"},
		{"ports of endpoints", "_http._tcp.db.default.svc.cluster.local.", dns.TypeSRV,
			"_http._tcp.db.default.svc.cluster.local. 5 IN SRV 0 33 8080 db-0.db.default.svc.cluster.local.; " +
				"_http._tcp.db.default.svc.cluster.local. 5 IN SRV 0 33 8080 10-200-0-6.db.default.svc.cluster.local.; " +
				"_http._tcp.db.default.svc.cluster.local. 5 IN SRV 0 33 8080 db-1.db.default.svc.cluster.local.; " +
				"+ db-0.db.default.svc.cluster.local. 5 IN A 10.200.0.5; + 10-200-0-6.db.default.svc.cluster.local. 5 IN A 10.200.0.6; " +
				"+ db-1.db.default.svc.cluster.local. 5 IN AAAA fd00::6"},
		{"an external name", "away.default.svc.cluster.local.", dns.TypeA, "away.default.svc.cluster.local. 5 IN CNAME www.example.com.; chase www.example.com."},
		{"an external name itself", "away.default.svc.cluster.local.", dns.TypeCNAME, "away.default.svc.cluster.local. 5 IN CNAME www.example.com."},
		{"below an external name", "x.away.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"a pod", "10-200-0-9.default.pod.cluster.local.", dns.TypeA, "10-200-0-9.default.pod.cluster.local. 5 IN A 10.200.0.9"},
		{"a pod's IPv6 address", "fd00--9.default.pod.cluster.local.", dns.TypeAAAA, "fd00--9.default.pod.cluster.local. 5 IN AAAA fd00::9"},
		{"a pod by the other family", "10-200-0-9.default.pod.cluster.local.", dns.TypeAAAA, "NODATA"},
		{"a pod that is no address", "web-0.default.pod.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"a pod in no namespace", "10-200-0-9.nowhere.pod.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"pods of a namespace", "default.pod.cluster.local.", dns.TypeA, "NODATA"},
		{"the domain's SOA", "cluster.local.", dns.TypeSOA, "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5"},
		{"the domain's name server", "cluster.local.", dns.TypeNS, "cluster.local. 5 IN NS ns.dns.cluster.local."},
		{"the domain itself", "cluster.local.", dns.TypeA, "NODATA"},
		{"the name server", "ns.dns.cluster.local.", dns.TypeA, "ns.dns.cluster.local. 5 IN A 10.32.0.10"},
		{"the version", "dns-version.cluster.local.", dns.TypeTXT, `dns-version.cluster.local. 5 IN TXT "1.1.0"`},
		{"the version by another type", "dns-version.cluster.local.", dns.TypeA, "NODATA"},
		{"nothing of the kind", "www.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"an address", "20.0.32.10.in-addr.arpa.", dns.TypePTR, "20.0.32.10.in-addr.arpa. 5 IN PTR web.default.svc.cluster.local."},
		{"an IPv6 address", "0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR,
			"0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 5 IN PTR web.default.svc.cluster.local."},
		{"an endpoint's address", "5.0.200.10.in-addr.arpa.", dns.TypePTR, "5.0.200.10.in-addr.arpa. 5 IN PTR db-0.db.default.svc.cluster.local."},
		{"an endpoint's address without a hostname", "6.0.200.10.in-addr.arpa.", dns.TypePTR, "not ours"},
		{"an address that nobody has", "9.0.32.10.in-addr.arpa.", dns.TypePTR, "not ours"},
		{"half an address", "32.10.in-addr.arpa.", dns.TypePTR, "not ours"},
		{"another domain", "www.example.com.", dns.TypeA, "not ours"},
		{"a domain that ends alike", "web.default.svc.mycluster.local.", dns.TypeA, "not ours"},
		{"the root", ".", dns.TypeNS, "not ours"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, ours := To(z, Question{test.question, test.kind})
			if got := text(r, ours); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	pod := zone.Pod{Namespace: "default", Addr: netip.MustParseAddr("10.200.0.9")}
	z := testZone().Update(zone.Changes{Pods: map[zone.Pod]bool{pod: true}, Synced: true})
	for _, test := range []struct {
		name, question string
		options        zone.Options
		want           string
	}{
		{"another TTL", "plain.default.svc.cluster.local.", zone.Options{TTL: 30}, "plain.default.svc.cluster.local. 30 IN A 10.32.0.21"},
		{"a pod that is there", "10-200-0-9.default.pod.cluster.local.", zone.Options{Pods: zone.PodsVerified}, "10-200-0-9.default.pod.cluster.local. 0 IN A 10.200.0.9"},
		{"a pod that is not there", "10-200-0-8.default.pod.cluster.local.", zone.Options{Pods: zone.PodsVerified}, "NXDOMAIN"},
		{"a pod of another namespace", "10-200-0-9.bare.pod.cluster.local.", zone.Options{Pods: zone.PodsVerified}, "NXDOMAIN"},
		{"a namespace of pods", "default.pod.cluster.local.", zone.Options{Pods: zone.PodsVerified}, "NODATA"},
		{"no pod records", "10-200-0-9.default.pod.cluster.local.", zone.Options{Pods: zone.PodsOff}, "NXDOMAIN"},
		{"no pod records at all", "pod.cluster.local.", zone.Options{Pods: zone.PodsOff}, "NXDOMAIN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, ours := To(z.With(test.options), Question{test.question, dns.TypeA})
			if got := text(r, ours); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
	z = z.Update(zone.Changes{Pods: map[zone.Pod]bool{pod: false}})
	if z.Pod(pod) {
		t.Error("the pod is still there")
	}
}

func text(r Reply, ours bool) string {
	if !ours {
		return "not ours"
	}
	var out []string
	for _, rr := range r.Answer {
		out = append(out, strings.Join(strings.Fields(rr.String()), " "))
	}
	for _, rr := range r.Extra {
		out = append(out, "+ "+strings.Join(strings.Fields(rr.String()), " "))
	}
	if r.Chase != "" {
		out = append(out, "chase "+r.Chase)
	}
	switch {
	case (r.SOA != nil) != (len(r.Answer) == 0):
		return "the SOA record belongs into answers without records, and only there"
	case len(out) > 0:
		return strings.Join(out, "; ")
	case r.Rcode == dns.RcodeNameError:
		return "NXDOMAIN"
	}
	return "NODATA"
}
