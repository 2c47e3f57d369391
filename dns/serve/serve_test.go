package serve_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"hardway/dns/chain"
	"hardway/dns/chain/cache"
	"hardway/dns/chain/forward"
	"hardway/dns/corefile"
	"hardway/dns/serve"
	"hardway/dns/wire"
	"hardway/dns/zone"
)

// rig is a server with a zone, and an upstream server of the test's own.
type rig struct {
	addr     string
	zone     *atomic.Pointer[zone.Zone]
	resolver *chain.Resolver
	forward  *forward.Forward
	changes  []change
}

// change changes the configuration before the server starts.
type change func(*corefile.Settings, *forward.Options)

// newRig starts a server on 127.0.0.1; its upstream servers are the ones given.
func newRig(t testing.TB, upstream ...string) *rig {
	t.Helper()
	return newRigWith(t, nil, upstream...)
}

func newRigWith(t testing.TB, changes []change, upstream ...string) *rig {
	t.Helper()
	r := &rig{zone: new(atomic.Pointer[zone.Zone]), changes: changes}
	r.zone.Store(zone.New("cluster.local").Update(zone.Changes{Synced: true, Serial: 1, Namespaces: map[string]bool{"default": true}}))
	log := zap.NewNop()
	if tt, ok := t.(*testing.T); ok {
		log = zaptest.NewLogger(tt, zaptest.Level(zap.InfoLevel))
	}
	reg := prometheus.NewRegistry()
	settings := corefile.Default()
	o := forward.Options{Forward: corefile.DefaultForward("."), Servers: func() []string { return upstream }}
	o.MaxConcurrent, o.HealthCheck = 4, 5*time.Millisecond
	for _, change := range r.changes {
		change(&settings, &o)
	}
	r.forward = forward.New(o, forward.NewMetrics(reg))
	t.Cleanup(r.forward.Close)
	cluster := &chain.Cluster{Zone: r.zone}
	handlers := chain.Chain{cluster, r.forward}
	cluster.Chase = handlers
	setup := &chain.Setup{Cluster: cluster, Chain: handlers, Cache: settings.Cache}
	if settings.Autopath {
		setup.Autopath = &chain.Autopath{Zone: r.zone, Cluster: cluster, Search: []string{"lan.example."}, Next: handlers}
		setup.Chain = append(chain.Chain{setup.Autopath}, handlers...)
	}
	if settings.Rate > 0 {
		setup.Limiter = chain.NewLimiter(settings.Rate, settings.Burst)
	}
	r.resolver = &chain.Resolver{Zone: r.zone, Setup: new(atomic.Pointer[chain.Setup]), Cache: cache.New(1000, "test", reg), Metrics: chain.NewMetrics("test", reg), Log: log}
	r.resolver.Setup.Store(setup)
	s, err := serve.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), r.resolver, log)
	if err != nil {
		t.Fatal(err)
	}
	r.addr = s.Addr().String()
	run(t, s.Run)
	return r
}

// run runs something until the test ends.
func run(t testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func (r *rig) set(s ...*zone.Service) {
	c := zone.Changes{Services: map[zone.Key]*zone.Service{}, Synced: true}
	for _, s := range s {
		c.Services[s.Key] = s
	}
	r.zone.Store(r.zone.Load().Update(c))
}

func (r *rig) remove(name string) {
	r.zone.Store(r.zone.Load().Update(zone.Changes{Services: map[zone.Key]*zone.Service{{Namespace: "default", Name: name}: nil}, Synced: true}))
}

func (r *rig) ask(t testing.TB, network, name string, kind uint16) *dns.Msg {
	t.Helper()
	m, _, err := (&dns.Client{Net: network, Timeout: 3 * time.Second, UDPSize: 1232}).Exchange(new(dns.Msg).SetQuestion(name, kind), r.addr)
	if err != nil {
		t.Fatalf("ask %s: %v", name, err)
	}
	return m
}

func text(m *dns.Msg) string {
	var out []string
	for _, rr := range m.Answer {
		out = append(out, strings.Join(strings.Fields(rr.String())[3:], " "))
	}
	return strings.TrimSpace(dns.RcodeToString[m.Rcode] + " " + strings.Join(out, ", "))
}

func (r *rig) want(t *testing.T, network, name string, kind uint16, want string) {
	t.Helper()
	if got := text(r.ask(t, network, name, kind)); got != want {
		t.Errorf("%s over %s: got %q, want %q", name, network, got, want)
	}
}

func web(addr string) *zone.Service {
	return &zone.Service{Key: zone.Key{Namespace: "default", Name: "web"}, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
}

func TestClusterNames(t *testing.T) {
	r := newRig(t)
	for _, network := range []string{"udp", "tcp"} {
		r.set(web("10.32.0.20"))
		for range 3 { // computed, then from the cache
			r.want(t, network, "web.default.svc.cluster.local.", dns.TypeA, "NOERROR A 10.32.0.20")
			r.want(t, network, "WEB.default.SVC.cluster.local.", dns.TypeAAAA, "NOERROR")
			r.want(t, network, "20.0.32.10.in-addr.arpa.", dns.TypePTR, "NOERROR PTR web.default.svc.cluster.local.")
		}
		r.set(web("10.32.0.21"))
		r.want(t, network, "web.default.svc.cluster.local.", dns.TypeA, "NOERROR A 10.32.0.21")
		r.remove("web")
		r.want(t, network, "web.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN")
	}
	if m := r.ask(t, "udp", "web.default.svc.cluster.local.", dns.TypeA); !m.Authoritative || len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA {
		t.Errorf("a denial without authority or SOA: %v", m)
	}
	r.zone.Store(zone.New("cluster.local"))
	r.want(t, "udp", "web.default.svc.cluster.local.", dns.TypeA, "SERVFAIL")
}

func TestManyEndpoints(t *testing.T) {
	r := newRig(t)
	s := &zone.Service{Key: zone.Key{Namespace: "default", Name: "db"}, Headless: true}
	for i := range 200 {
		s.Endpoints = append(s.Endpoints, zone.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 200, 0, byte(i)}), Host: fmt.Sprint("db-", i), Named: true})
	}
	r.set(s)
	if m := r.ask(t, "udp", "db.default.svc.cluster.local.", dns.TypeA); !m.Truncated || len(m.Answer) > 0 {
		t.Errorf("over UDP: truncated %v, %d answers", m.Truncated, len(m.Answer))
	}
	first := map[string]bool{}
	for range 20 {
		m := r.ask(t, "tcp", "db.default.svc.cluster.local.", dns.TypeA)
		if m.Truncated || len(m.Answer) != 200 {
			t.Fatalf("over TCP: truncated %v, %d answers", m.Truncated, len(m.Answer))
		}
		first[m.Answer[0].String()] = true
	}
	if len(first) < 10 {
		t.Errorf("%d addresses came first in 20 answers: they do not take turns", len(first))
	}
}

func TestOddMessages(t *testing.T) {
	r := newRig(t)
	q := func(change func(*dns.Msg)) *dns.Msg {
		m := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
		change(m)
		return m
	}
	for name, test := range map[string]struct {
		msg  *dns.Msg
		want int
	}{
		"update":         {q(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		"two questions":  {q(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		"no question":    {q(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		"class CHAOS":    {q(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeRefused},
		"EDNS version 1": {q(func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
		"zone transfer":  {q(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }), dns.RcodeRefused},
	} {
		t.Run(name, func(t *testing.T) {
			m, _, err := (&dns.Client{Timeout: 3 * time.Second}).Exchange(test.msg, r.addr)
			if err != nil || m.Rcode != test.want {
				t.Errorf("got %v, %v; want %s", m, err, dns.RcodeToString[test.want])
			}
		})
	}
	// Replies and rubbish are not answered, and do not keep others from being answered.
	c, err := net.Dial("udp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	response, err := new(dns.Msg).SetReply(q(func(*dns.Msg) {})).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{{1, 2, 3}, response} {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	r.want(t, "udp", "web.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN")
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes in answer to rubbish", n)
	}
}

// upstream is a name server that answers from a function and counts the questions.
type upstream struct {
	addr  string
	asked atomic.Int32
}

func newUpstream(t *testing.T, handle func(w dns.ResponseWriter, m *dns.Msg)) *upstream {
	t.Helper()
	u := &upstream{}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	u.addr = pc.LocalAddr().String()
	h := dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		u.asked.Add(1)
		handle(w, m)
	})
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { _ = s.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return u
}

// says answers every question with one record; %s in it is the name.
func says(t *testing.T, record string) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		rr, err := dns.NewRR(fmt.Sprintf(record, m.Question[0].Name))
		if err != nil {
			t.Error(err)
		}
		r := new(dns.Msg).SetReply(m)
		r.Answer = []dns.RR{rr}
		_ = w.WriteMsg(r)
	}
}

func TestForward(t *testing.T) {
	u := newUpstream(t, says(t, "%s 30 IN A 192.0.2.1"))
	r := newRig(t, u.addr)
	for range 3 {
		r.want(t, "udp", "www.example.com.", dns.TypeA, "NOERROR A 192.0.2.1")
		r.want(t, "tcp", "WWW.example.com.", dns.TypeA, "NOERROR A 192.0.2.1")
	}
	if n := u.asked.Load(); n != 1 {
		t.Errorf("upstream was asked %d times, want once: the answer may be remembered for 30 seconds", n)
	}
	r.set(&zone.Service{Key: zone.Key{Namespace: "default", Name: "away"}, External: "WWW.example.org."},
		&zone.Service{Key: zone.Key{Namespace: "default", Name: "alias"}, External: "web.default.svc.cluster.local."}, web("10.32.0.20"),
		&zone.Service{Key: zone.Key{Namespace: "default", Name: "loop"}, External: "loop.default.svc.cluster.local."})
	r.want(t, "udp", "away.default.svc.cluster.local.", dns.TypeA, "NOERROR CNAME WWW.example.org., A 192.0.2.1")
	r.want(t, "udp", "alias.default.svc.cluster.local.", dns.TypeA, "NOERROR CNAME web.default.svc.cluster.local., A 10.32.0.20")
	if m := r.ask(t, "udp", "loop.default.svc.cluster.local.", dns.TypeA); len(m.Answer) < 2 || len(m.Answer) > 20 {
		t.Errorf("a name that leads to itself: %v", m)
	}
	r.want(t, "udp", `we\.ird.example.com.`, dns.TypeA, "NOERROR A 192.0.2.1")
}

func TestForwardFailures(t *testing.T) {
	dead, err := net.ListenPacket("udp", "127.0.0.1:0") // takes questions and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dead.Close() }()
	failing := newUpstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(m, dns.RcodeServerFailure))
	})
	good := newUpstream(t, says(t, "%s 30 IN A 192.0.2.1"))
	large := newUpstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			r.Truncated = true
		} else {
			r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(192, 0, 2, 7)}}
		}
		_ = w.WriteMsg(r)
	})
	for name, test := range map[string]struct {
		upstream []string
		want     string
	}{
		"a silent server first":      {[]string{dead.LocalAddr().String(), good.addr}, "NOERROR A 192.0.2.1"},
		"a failing server first":     {[]string{failing.addr, good.addr}, "NOERROR A 192.0.2.1"},
		"only a failing server":      {[]string{failing.addr}, "SERVFAIL"},
		"no server":                  {nil, "SERVFAIL"},
		"an answer that needs TCP":   {[]string{large.addr}, "NOERROR A 192.0.2.7"},
		"a server that is not there": {[]string{"127.0.0.1:1", good.addr}, "NOERROR A 192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			newRig(t, test.upstream...).want(t, "udp", "www.example.com.", dns.TypeA, test.want)
		})
	}
}

func TestStaleAnswers(t *testing.T) {
	var broken, remembered atomic.Bool
	u := newUpstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		switch {
		case broken.Load():
			_ = w.WriteMsg(new(dns.Msg).SetRcode(m, dns.RcodeServerFailure))
		case remembered.Load():
			says(t, "%s 1 IN A 192.0.2.1")(w, m)
		default:
			says(t, "%s 0 IN A 192.0.2.1")(w, m)
		}
	})
	r := newRig(t, u.addr)
	r.want(t, "udp", "short.example.com.", dns.TypeA, "NOERROR A 192.0.2.1")
	broken.Store(true)
	r.want(t, "udp", "short.example.com.", dns.TypeA, "SERVFAIL") // a TTL of 0 is not remembered
	remembered.Store(true)
	broken.Store(false)
	until(t, "the failure is forgotten", func() bool {
		return text(r.ask(t, "udp", "short.example.com.", dns.TypeA)) == "NOERROR A 192.0.2.1"
	})
	broken.Store(true)
	until(t, "the answer is old: upstream is asked again, and the old answer given", func() bool {
		r.want(t, "udp", "short.example.com.", dns.TypeA, "NOERROR A 192.0.2.1")
		return u.asked.Load() > 3
	})
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting until %s", what)
		}
	}
}

// TestBound fills all places for questions under way: more fail at once, and cluster names are answered all the same.
func TestBound(t *testing.T) {
	release := make(chan struct{})
	u := newUpstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		<-release
		says(t, "%s 1 IN A 192.0.2.1")(w, m)
	})
	r := newRig(t, u.addr)
	r.set(web("10.32.0.20"))
	results := make(chan string)
	for i := range 4 {
		go func() { results <- text(r.ask(t, "udp", fmt.Sprintf("slow%d.example.com.", i), dns.TypeA)) }()
	}
	until(t, "four questions are under way", func() bool { return u.asked.Load() == 4 })
	go func() { results <- text(r.ask(t, "udp", "slow0.example.com.", dns.TypeA)) }() // the same question shares the place
	r.want(t, "udp", "one-more.example.com.", dns.TypeA, "SERVFAIL")
	r.want(t, "udp", "web.default.svc.cluster.local.", dns.TypeA, "NOERROR A 10.32.0.20")
	close(release)
	for range 5 {
		if got := <-results; got != "NOERROR A 192.0.2.1" {
			t.Errorf("a slow question: %s", got)
		}
	}
}

func TestTCPPipelining(t *testing.T) {
	r := newRig(t)
	r.set(web("10.32.0.20"))
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var out []byte
	for id := range uint16(20) {
		m := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
		m.Id = id
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(b))), b...)
	}
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	for id := range uint16(20) {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		var m dns.Msg
		if err := m.Unpack(b); err != nil || m.Id != id || len(m.Answer) != 1 {
			t.Fatalf("answer %d: %v, %v", id, &m, err)
		}
	}
	if _, err := c.Write([]byte{0, 2, 1, 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after rubbish the connection should end, got %v", err)
	}
}

var scratch wire.Scratch

func now(r *rig, out, query []byte) ([]byte, bool) {
	return r.resolver.Now(out[:0], query, &scratch, chain.Peer{})
}

func BenchmarkCached(b *testing.B) {
	r := newRig(b)
	r.set(web("10.32.0.20"))
	query, err := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).SetEdns0(1232, false).Pack()
	if err != nil {
		b.Fatal(err)
	}
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		var ok bool
		if out, ok = now(r, out, query); !ok {
			b.Fatal("not answered")
		}
	}
}

func BenchmarkUncached(b *testing.B) {
	r := newRig(b)
	r.set(web("10.32.0.20"))
	zones := [2]*zone.Zone{r.zone.Load(), r.zone.Load().Update(zone.Changes{Synced: true})}
	query, err := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).SetEdns0(1232, false).Pack()
	if err != nil {
		b.Fatal(err)
	}
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.zone.Store(zones[i%2]) // another zone: nothing remembered counts
		var ok bool
		if out, ok = now(r, out, query); !ok {
			b.Fatal("not answered")
		}
	}
}
