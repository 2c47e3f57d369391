package serve_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"hardway/dns/chain/forward"
	"hardway/dns/corefile"
	"hardway/dns/zone"
)

func TestAutopath(t *testing.T) {
	u := newUpstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		name := m.Question[0].Name
		switch {
		case strings.HasPrefix(name, "broken."):
			_ = w.WriteMsg(new(dns.Msg).SetRcode(m, dns.RcodeServerFailure))
		case name == "www.example.com." && m.Question[0].Qtype == dns.TypeA || name == "printer.lan.example.":
			says(t, "%s 300 IN A 192.0.2.1")(w, m)
		case name == "www.example.com.":
			_ = w.WriteMsg(new(dns.Msg).SetReply(m))
		default:
			_ = w.WriteMsg(new(dns.Msg).SetRcode(m, dns.RcodeNameError))
		}
	})
	r := newRigWith(t, []change{func(s *corefile.Settings, _ *forward.Options) { s.Autopath = true }}, u.addr)
	r.set(web("10.32.0.20"))
	r.zone.Store(r.zone.Load().Update(zone.Changes{Synced: true, Namespaces: map[string]bool{"other": true}}))
	const path = ".other.svc.cluster.local."
	for range 2 { // asked for, then from the cache
		r.want(t, "udp", "www.example.com"+path, dns.TypeA, "NOERROR CNAME www.example.com., A 192.0.2.1")
		r.want(t, "udp", "www.example.com"+path, dns.TypeAAAA, "NOERROR CNAME www.example.com.")
		r.want(t, "udp", "web.default"+path, dns.TypeA, "NOERROR CNAME web.default.svc.cluster.local., A 10.32.0.20")
		r.want(t, "udp", "printer"+path, dns.TypeA, "NOERROR CNAME printer.lan.example., A 192.0.2.1")
		r.want(t, "udp", "nothing.example"+path, dns.TypeA, "NXDOMAIN")
		r.want(t, "udp", "default"+path, dns.TypeA, "NXDOMAIN")        // default.svc.cluster.local has no address
		r.want(t, "udp", "broken.example"+path, dns.TypeA, "NXDOMAIN") // the client meets the failure itself
		r.want(t, "udp", "www.example.com.nowhere.svc.cluster.local.", dns.TypeA, "NXDOMAIN")
		r.want(t, "udp", "www.example.com"+path, dns.TypeTXT, "NXDOMAIN")
	}
}

func TestRateLimit(t *testing.T) {
	r := newRigWith(t, []change{func(s *corefile.Settings, _ *forward.Options) { s.Rate, s.Burst = 1, 2 }})
	r.set(web("10.32.0.20"))
	for _, want := range []string{"NOERROR A 10.32.0.20", "NOERROR A 10.32.0.20", "REFUSED"} {
		r.want(t, "udp", "web.default.svc.cluster.local.", dns.TypeA, want)
	}
}

// TestPrefetch asks again and again for an answer that lasts a second: no client waits for the next one.
func TestPrefetch(t *testing.T) {
	u := newUpstream(t, says(t, "%s 1 IN A 192.0.2.1"))
	r := newRigWith(t, []change{func(s *corefile.Settings, _ *forward.Options) {
		s.Cache.Prefetch = corefile.Prefetch{Amount: 2, Gap: time.Minute, Percent: 90}
	}}, u.addr)
	until(t, "the answer is asked for a second time before it runs out", func() bool {
		r.want(t, "udp", "www.example.com.", dns.TypeA, "NOERROR A 192.0.2.1")
		return u.asked.Load() == 2
	})
}

// TestStaleAtOnce has a server that falls silent: an old answer is given without waiting for it.
func TestStaleAtOnce(t *testing.T) {
	var silent atomic.Bool
	u := newUpstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if !silent.Load() {
			says(t, "%s 1 IN A 192.0.2.1")(w, m)
		}
	})
	r := newRigWith(t, []change{func(s *corefile.Settings, _ *forward.Options) { s.Cache.Immediate, s.Cache.Prefetch.Amount = true, 0 }}, u.addr)
	r.want(t, "udp", "www.example.com.", dns.TypeA, "NOERROR A 192.0.2.1")
	silent.Store(true)
	until(t, "the server was asked for a new answer", func() bool {
		started := time.Now()
		m := r.ask(t, "udp", "www.example.com.", dns.TypeA)
		if took := time.Since(started); took > 500*time.Millisecond || text(m) != "NOERROR A 192.0.2.1" {
			t.Fatalf("%s after %v", text(m), took)
		}
		return u.asked.Load() >= 2
	})
}

// TestHealth has a server that is gone: after some failures it is asked last, and takes its turn again when it is back.
func TestHealth(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := pc.LocalAddr().String()
	if err := pc.Close(); err != nil {
		t.Fatal(err)
	}
	good := newUpstream(t, says(t, "%s 0 IN A 192.0.2.1"))
	r := newRigWith(t, []change{func(_ *corefile.Settings, o *forward.Options) { o.Policy = corefile.RoundRobin }}, addr, good.addr)
	for range 5 {
		r.want(t, "udp", "www.example.com.", dns.TypeA, "NOERROR A 192.0.2.1")
	}
	if pc, err = net.ListenPacket("udp", addr); err != nil {
		t.Fatal(err)
	}
	back := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(says(t, "%s 0 IN A 192.0.2.2"))}
	go func() { _ = back.ActivateAndServe() }()
	t.Cleanup(func() { _ = back.Shutdown() })
	until(t, "the server that is back is asked", func() bool { return text(r.ask(t, "udp", "www.example.com.", dns.TypeA)) == "NOERROR A 192.0.2.2" })
}

func TestRoutes(t *testing.T) {
	at := func(zone, server string, except ...string) *forward.Forward {
		o := forward.Options{Forward: corefile.DefaultForward(zone), Servers: func() []string { return []string{server} }}
		o.MaxConcurrent, o.Except = 4, except
		f := forward.New(o, nil)
		t.Cleanup(f.Close)
		return f
	}
	routes := forward.Routes{at(".", "a", "intern.example."), at("corp.example.", "b"), at("lab.corp.example.", "c")}
	for name, want := range map[string]string{
		"www.example.com.": ".", "corp.example.": "corp.example.", "x.corp.example.": "corp.example.", "x.lab.corp.example.": "lab.corp.example.",
		"mycorp.example.": ".", "x.intern.example.": "", ".": ".",
	} {
		got := ""
		if f := routes.For(name); f != nil {
			got = f.Zone()
		}
		if got != want {
			t.Errorf("%s goes to %q, want %q", name, got, want)
		}
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"dns.example"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int32
	s := &dns.Server{Listener: counting{l, &accepted}, Handler: dns.HandlerFunc(says(t, "%s 0 IN A 192.0.2.1"))}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	secure := func(name string) *rig {
		return newRigWith(t, []change{func(_ *corefile.Settings, o *forward.Options) { o.Roots, o.ServerName = roots, name }}, "tls://"+l.Addr().String())
	}
	r := secure("dns.example")
	for range 3 {
		r.want(t, "udp", "www.example.com.", dns.TypeA, "NOERROR A 192.0.2.1")
	}
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d connections for three questions, want one", n)
	}
	secure("another.example").want(t, "udp", "www.example.com.", dns.TypeA, "SERVFAIL")
}

type counting struct {
	net.Listener
	n *atomic.Int32
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// TestTCPOutOfOrder: a question that waits does not keep back the one behind it.
func TestTCPOutOfOrder(t *testing.T) {
	release := make(chan struct{})
	u := newUpstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		<-release
		says(t, "%s 30 IN A 192.0.2.1")(w, m)
	})
	r := newRig(t, u.addr)
	r.set(web("10.32.0.20"))
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var out []byte
	for id, name := range []string{"slow.example.com.", "web.default.svc.cluster.local."} {
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		m.Id = uint16(id)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(b))), b...)
	}
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint16{1, 0} {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		if id := binary.BigEndian.Uint16(b); id != want {
			t.Errorf("answer %d is for question %d", i, id)
		}
		if i == 0 {
			close(release)
		}
	}
}
