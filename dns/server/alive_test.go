package server

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestAnswered(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	started := time.Now()
	if answered(t.Context(), netip.MustParseAddrPort(silent.LocalAddr().String()), "cluster.local") == nil {
		t.Error("a server that says nothing counts as alive")
	}
	if took := time.Since(started); took > answerTime+5*time.Second {
		t.Errorf("it was noticed after %s", took)
	}

	refusing, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: refusing, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused))
	})}
	go server.ActivateAndServe() //nolint:errcheck // ends with the test
	defer server.Shutdown()      //nolint:errcheck // as above
	if err := answered(t.Context(), netip.MustParseAddrPort(refusing.LocalAddr().String()), "cluster.local"); err != nil {
		t.Errorf("a refusal is an answer, but: %v", err)
	}
}
