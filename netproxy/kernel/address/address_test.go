package address

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"hardway/netproxy/netlab"
)

// TestHold has a machine outside talk to an address that the node holds, drops, and lets run out.
func TestHold(t *testing.T) {
	lab := netlab.New(t)
	var l *Link
	lab.Node.Do(func() {
		var err error
		if l, err = Open(netlab.NodeAddr.String()); err != nil {
			t.Fatal(err)
		}
	})
	defer l.Close()
	if l.Name() != "up0" {
		t.Errorf("found the link %s, want the one that has the address", l.Name())
	}
	lab.Node.ServeTCP(8080)
	vip := netip.MustParseAddr("192.168.77.100")
	answers := func(wait time.Duration) bool {
		var err error
		lab.Outside.Do(func() {
			var c net.Conn
			if c, err = net.DialTimeout("tcp", vip.String()+":8080", wait); err == nil {
				_ = c.Close()
			}
		})
		return err == nil
	}
	hold := func() {
		t.Helper()
		for range 2 { // again is no error
			if err := l.Hold(vip, 2*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range []netip.Addr{vip, netip.MustParseAddr("fd00:77::100")} {
			if err := l.Announce(a); err != nil {
				t.Fatal(err)
			}
		}
		if !answers(3 * time.Second) {
			t.Fatal("an address that is held does not answer")
		}
	}
	hold()
	for range 2 {
		if err := l.Drop(vip); err != nil {
			t.Fatal(err)
		}
	}
	if answers(200 * time.Millisecond) {
		t.Fatal("an address that was dropped answers")
	}
	hold()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); answers(200 * time.Millisecond); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("an address that nobody holds anew does not run out")
		}
	}
}

func TestFrames(t *testing.T) {
	own := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	want := []byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01\x02\x00\x00\x00\x00\x01\xc0\x00\x02\x01\x00\x00\x00\x00\x00\x00\xc0\x00\x02\x01")
	if got := arp(own, netip.MustParseAddr("192.0.2.1")); !bytes.Equal(got, want) {
		t.Errorf("ARP: got %x, want %x", got, want)
	}
	na := advertisement(own, netip.MustParseAddr("2001:db8::1"))
	if len(na) != 14+40+32 {
		t.Fatalf("advertisement of %d bytes", len(na))
	}
	// The checksum over the message with its own checksum in it is 0.
	ip := na[14:]
	pseudo := append(append(append([]byte{}, ip[8:40]...), 0, 0, 0, 32, 0, 0, 0, 58), ip[40:]...)
	if sum := checksum(pseudo); sum != 0 {
		t.Errorf("checksum is off by %x", sum)
	}
}
