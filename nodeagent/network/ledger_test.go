package network

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
)

func ledgerOf(t *testing.T) *ledger {
	t.Helper()
	l, err := openLedger(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLedgerGivesEveryAddressOnce(t *testing.T) {
	l := ledgerOf(t)
	cidr := netip.MustParsePrefix("10.0.0.0/28") // 16 addresses: network, bridge, 13 pods, broadcast
	seen := map[netip.Addr]string{}
	for i := range 13 {
		uid := fmt.Sprint("pod", i)
		ip, err := l.take(cidr, uid)
		if err != nil {
			t.Fatal(err)
		}
		if other, taken := seen[ip]; taken {
			t.Fatalf("%s given to %s and %s", ip, other, uid)
		}
		if !usable(cidr, ip) {
			t.Errorf("%s is not for pods", ip)
		}
		seen[ip] = uid
	}
	if ip, err := l.take(cidr, "one more"); !errors.Is(err, errFull) {
		t.Errorf("got %v, %v from a full range", ip, err)
	}
}

func TestLedgerLetsAddressesRest(t *testing.T) {
	l := ledgerOf(t)
	cidr := netip.MustParsePrefix("10.0.0.0/28")
	last := netip.Addr{}
	for i := range 30 { // twice around
		ip, err := l.take(cidr, fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		if ip == last {
			t.Fatalf("%s was given again at once", ip)
		}
		last = ip
		if err := l.free(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLedgerAfterCrash(t *testing.T) {
	l := ledgerOf(t)
	ip, err := l.take(podCIDR, "a") // claimed, but the crash came before it was noted
	if err != nil {
		t.Fatal(err)
	}
	reopened, err := openLedger(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := reopened.take(podCIDR, "a")
	if err != nil || again != ip {
		t.Errorf("got %v, %v, want %v", again, err, ip)
	}
	if other, err := reopened.take(podCIDR, "b"); err != nil || other == ip {
		t.Errorf("b got %v, %v", other, err)
	}
	if err := reopened.free("a"); err != nil {
		t.Fatal(err)
	}
	if _, owned, err := reopened.owned("a"); err != nil || owned {
		t.Errorf("a still owns an address: %v, %v", owned, err)
	}
}

func TestLedgerConcurrent(t *testing.T) {
	l := ledgerOf(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[netip.Addr]bool{}
	for i := range 50 {
		wg.Go(func() {
			ip, err := l.take(podCIDR, fmt.Sprint(i))
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[ip] {
				t.Errorf("got %v, %v", ip, err)
			}
			seen[ip] = true
		})
	}
	wg.Wait()
}
