package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func query(name string, kind uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, kind) }

func TestParse(t *testing.T) {
	with := func(m *dns.Msg, change func(*dns.Msg)) *dns.Msg { change(m); return m }
	for _, test := range []struct {
		name string
		msg  *dns.Msg
		want string
	}{
		{"plain", query("Web.Default.svc.cluster.local.", dns.TypeA), "web.default.svc.cluster.local. 1 512"},
		{"the root", query(".", dns.TypeNS), ". 2 512"},
		{"EDNS0", query("a.b.", dns.TypeSRV).SetEdns0(4096, false), "a.b. 33 1232 edns"},
		{"EDNS0, small", query("a.b.", dns.TypeSRV).SetEdns0(100, true), "a.b. 33 512 edns do"},
		{"a cookie", with(query("a.b.", dns.TypeA).SetEdns0(800, false), func(m *dns.Msg) {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"})
		}), "a.b. 1 800 edns"},
		{"checking disabled", with(query("a.b.", dns.TypeA), func(m *dns.Msg) { m.CheckingDisabled, m.AuthenticatedData = true, true }), "a.b. 1 512"},
		{"a reply", new(dns.Msg).SetReply(query("a.b.", dns.TypeA)), "no"},
		{"a notification", with(query("a.b.", dns.TypeSOA), func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), "no"},
		{"two questions", with(query("a.b.", dns.TypeA), func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), "no"},
		{"class CHAOS", with(query("version.bind.", dns.TypeTXT), func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), "no"},
		{"EDNS version 1", with(query("a.b.", dns.TypeA).SetEdns0(800, false), func(m *dns.Msg) { m.IsEdns0().SetVersion(1) }), "no"},
		{"a record that is no OPT", with(query("a.b.", dns.TypeA), func(m *dns.Msg) { m.Extra = []dns.RR{rr(t, "a.b. 1 IN A 1.2.3.4")} }), "no"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var scratch Scratch
			got := "no"
			if q, ok := Parse(pack(t, test.msg), &scratch); ok {
				name, _ := NameOf(q.Key)
				got = fmt.Sprint(name, " ", q.Type, " ", q.Size)
				if q.EDNS {
					got += " edns"
				}
				if q.DO {
					got += " do"
				}
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func rr(t testing.TB, text string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reply unpacks what an image makes of a query.
func reply(t *testing.T, im *Image, m *dns.Msg, limit int, age, turn uint32) *dns.Msg {
	t.Helper()
	var scratch Scratch
	q, ok := Parse(pack(t, m), &scratch)
	if !ok {
		t.Fatal("not an ordinary query")
	}
	out := im.Reply([]byte("before"), &q, limit, age, turn)
	if len(out)-6 > limit || !bytes.HasPrefix(out, []byte("before")) {
		t.Fatalf("%d bytes, more than %d, or not appended", len(out)-6, limit)
	}
	var r dns.Msg
	if err := r.Unpack(out[6:]); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestReply(t *testing.T) {
	m := new(dns.Msg).SetReply(query("web.example.", dns.TypeA))
	m.Authoritative, m.RecursionAvailable = true, true
	for _, a := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		m.Answer = append(m.Answer, rr(t, "web.example. 30 IN A "+a))
	}
	m.Extra = []dns.RR{rr(t, "ns.example. 60 IN A 10.0.0.9")}
	im, err := NewImage(m)
	if err != nil {
		t.Fatal(err)
	}

	q := query("WEB.example.", dns.TypeA)
	r := reply(t, im, q, MinUDP, 0, 0)
	if r.Id != q.Id || !r.Response || !r.Authoritative || !r.RecursionAvailable || !r.RecursionDesired || r.Truncated || r.Question[0].Name != "WEB.example." {
		t.Errorf("header or question are wrong: %v", r)
	}
	if len(r.Answer) != 3 || len(r.Extra) != 1 || r.Answer[0].Header().Name != "WEB.example." {
		t.Errorf("records are wrong: %v", r)
	}
	q.RecursionDesired = false
	if r := reply(t, im, q, MinUDP, 0, 0); r.RecursionDesired {
		t.Errorf("recursion was not asked for")
	}

	var first []string
	for turn := range uint32(4) {
		r := reply(t, im, q, MinUDP, 10, turn)
		seen := map[string]bool{}
		for _, a := range r.Answer {
			seen[a.(*dns.A).A.String()] = true
			if a.Header().Ttl != 20 {
				t.Errorf("turn %d: TTL %d after 10 seconds, want 20", turn, a.Header().Ttl)
			}
		}
		if len(seen) != 3 || r.Extra[0].Header().Ttl != 50 {
			t.Errorf("turn %d: %v", turn, r)
		}
		first = append(first, r.Answer[0].(*dns.A).A.String())
	}
	if got := strings.Join(first, " "); got != "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.1" {
		t.Errorf("first addresses %s", got)
	}
	if r := reply(t, im, q, MinUDP, 100, 0); r.Answer[0].Header().Ttl != 0 {
		t.Errorf("TTL %d long after its end", r.Answer[0].Header().Ttl)
	}

	r = reply(t, im, query("web.example.", dns.TypeA).SetEdns0(1232, true), MaxUDP, 0, 0)
	if opt := r.IsEdns0(); opt == nil || opt.UDPSize() != MaxUDP || !opt.Do() || len(r.Extra) != 2 {
		t.Errorf("EDNS0 is wrong: %v", r)
	}
	for _, q := range []*dns.Msg{query("web.example.", dns.TypeA), query("web.example.", dns.TypeA).SetEdns0(512, false)} {
		r := reply(t, im, q, 70, 0, 0)
		if !r.Truncated || len(r.Answer) > 0 || (r.IsEdns0() == nil) != (q.IsEdns0() == nil) {
			t.Errorf("a reply that does not fit: %v", r)
		}
	}
}

// FuzzParse compares Parse with the library: what is ordinary to Parse must mean the same to the library, and Parse must not fail on anything.
func FuzzParse(f *testing.F) {
	f.Add(pack(f, query("web.default.svc.cluster.local.", dns.TypeA).SetEdns0(1232, true)))
	f.Add(pack(f, query(`we\.ird\000.example.`, dns.TypeSRV)))
	f.Add(pack(f, query(".", dns.TypeNS)))
	image, err := NewImage(new(dns.Msg).SetReply(query(".", dns.TypeNS)))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		var scratch Scratch
		q, ok := Parse(msg, &scratch)
		if !ok {
			return
		}
		var m dns.Msg
		if err := m.Unpack(msg); err != nil {
			t.Skip("the library is stricter, in records that answers do not depend on")
		}
		if m.Question[0].Qtype != q.Type || m.Id != q.ID || m.RecursionDesired != q.Recurse || (m.IsEdns0() != nil) != q.EDNS {
			t.Fatalf("parsed %+v, the library %v", q, &m)
		}
		if name, plain := NameOf(q.Key); plain && name != dns.CanonicalName(m.Question[0].Name) {
			t.Fatalf("name %q, the library %q", name, m.Question[0].Name)
		}
		for _, out := range [][]byte{Fail(nil, &q, dns.RcodeServerFailure)} {
			var r dns.Msg
			if err := r.Unpack(out); err != nil || r.Question[0] != m.Question[0] {
				t.Fatalf("reply %v to %v: %v", &r, &m, err)
			}
		}
		if len(q.Name) == 1 {
			image.Reply(nil, &q, q.Size, 0, 0)
		}
	})
}

// FuzzImage packs whatever the library reads, and reads it again.
func FuzzImage(f *testing.F) {
	m := new(dns.Msg).SetReply(query("web.example.", dns.TypeA))
	m.Answer = []dns.RR{rr(f, "web.example. 30 IN A 10.0.0.1"), rr(f, "web.example. 30 IN A 10.0.0.2")}
	m.Ns = []dns.RR{rr(f, "example. 30 IN SOA ns.example. me.example. 1 2 3 4 5")}
	f.Add(pack(f, m), uint32(1), uint32(1))
	f.Fuzz(func(t *testing.T, msg []byte, age, turn uint32) {
		var m dns.Msg
		if err := m.Unpack(msg); err != nil || len(m.Question) != 1 {
			t.Skip()
		}
		if again, err := m.Pack(); err != nil || new(dns.Msg).Unpack(again) != nil {
			t.Skip("the library does not read what it wrote itself")
		}
		im, err := NewImage(&m)
		if err != nil {
			return
		}
		ask := query(m.Question[0].Name, m.Question[0].Qtype)
		packed, err := ask.Pack()
		if err != nil {
			t.Skip()
		}
		var scratch Scratch
		q, ok := Parse(packed, &scratch)
		if !ok {
			t.Skip()
		}
		var r dns.Msg
		if err := r.Unpack(im.Reply(nil, &q, 65535, age, turn)); err != nil {
			t.Fatalf("%v\nof %v", err, &m)
		}
		if len(r.Answer) != len(m.Answer) || len(r.Ns) != len(m.Ns) {
			t.Fatalf("got %v, want %v", &r, &m)
		}
	})
}
