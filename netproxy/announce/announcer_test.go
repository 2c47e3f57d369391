package announce

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"hardway/shared/client"
	"hardway/shared/testenv"
)

func TestDecide(t *testing.T) {
	const me = "n1"
	for name, test := range map[string]struct {
		s    situation
		want action
	}{
		"nobody has it":                 {situation{eligible: true}, take},
		"nobody, but not our turn yet":  {situation{eligible: true, wait: 100 * time.Millisecond}, leave},
		"nobody, our turn":              {situation{eligible: true, wait: 100 * time.Millisecond, silent: 100 * time.Millisecond}, take},
		"ours":                          {situation{eligible: true, holder: me}, keep},
		"ours, but no endpoint here":    {situation{holder: me}, release},
		"another's, who lives":          {situation{eligible: true, holder: "n2", silent: time.Second}, leave},
		"another's, who is dead":        {situation{eligible: true, holder: "n2", silent: deadAfter}, take},
		"dead, but we have no endpoint": {situation{holder: "n2", silent: time.Hour}, leave},
	} {
		if got := decide(me, test.s); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

func TestLeaseName(t *testing.T) {
	for a, want := range map[string]string{"192.0.2.1": "lb-192-0-2-1", "2001:db8::": "lb-2001-0db8-0000-0000-0000-0000-0000-0000"} {
		if got := leaseName(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: got %s, want %s", a, got, want)
		}
	}
}

// link notes what is held, as a kernel would hold it.
type link struct {
	mu    sync.Mutex
	until map[netip.Addr]time.Time
	told  map[netip.Addr]int
}

func (l *link) Hold(a netip.Addr, stay time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until[a] = time.Now().Add(stay)
	return nil
}

func (l *link) Drop(a netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.until, a)
	return nil
}

func (l *link) Announce(a netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told[a]++
	return nil
}

func (l *link) has(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until[a])
}

// runner is one node's announcer; kill ends it without a word, stop in order.
type runner struct {
	*Announcer
	link       *link
	kill, stop func()
}

func start(t *testing.T, api *client.API, name string, wanted map[netip.Addr]bool) *runner {
	t.Helper()
	log := zaptest.NewLogger(t).Named(name)
	in := client.NewInformers(api, log)
	r := &runner{link: &link{until: map[netip.Addr]time.Time{}, told: map[netip.Addr]int{}}}
	r.Announcer = New(api, in, name, r.link, log)
	r.Set(wanted)
	watching, unwatch := context.WithCancel(t.Context())
	running, stop := context.WithCancel(t.Context())
	dying, kill := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = in.Run(watching) })
	wg.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-dying.Done():
				return
			case <-running.Done():
				r.giveUp(t.Context())
				return
			case now := <-tick.C:
				if r.leases.HasSynced() {
					r.report(r.look(t.Context(), now))
				}
			}
		}
	})
	end := func(cancel func()) func() { return sync.OnceFunc(func() { cancel(); unwatch(); wg.Wait() }) }
	r.kill, r.stop = end(kill), end(stop)
	t.Cleanup(r.kill)
	return r
}

// holder waits until exactly one of the nodes holds the address.
func holder(t *testing.T, a netip.Addr, limit time.Duration, nodes ...*runner) *runner {
	t.Helper()
	started := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		var has []*runner
		names := ""
		for _, n := range nodes {
			if n.link.has(a) {
				has = append(has, n)
				names += " " + n.node
			}
		}
		if len(has) == 1 {
			t.Logf("%s is held by%s after %v", a, names, time.Since(started).Round(time.Millisecond))
			return has[0]
		}
		if time.Since(started) > limit {
			t.Fatalf("%s is held by [%s], want one node", a, names)
		}
	}
}

func TestOneNodeAnnounces(t *testing.T) {
	api := testenv.Start(t).API()
	addresses := map[netip.Addr]bool{}
	for i := range 8 {
		addresses[netip.MustParseAddr(fmt.Sprint("192.0.2.", i+1))] = true
	}
	n1, n2 := start(t, api, "n1", addresses), start(t, api, "n2", addresses)
	first := netip.MustParseAddr("192.0.2.1")
	for a := range addresses {
		holder(t, a, 10*time.Second, n1, n2)
	}
	// Whoever dies loses its addresses; the limit is for slow machines, the log tells the time.
	dead := holder(t, first, 10*time.Second, n1, n2)
	alive := n1
	if dead == n1 {
		alive = n2
	}
	dead.kill()
	for a := range addresses {
		holder(t, a, 15*time.Second, alive)
	}
	if alive.link.told[first] == 0 {
		t.Error("the neighbours were not told")
	}
	// A node that cannot answer any more gives back, and one that stops does not make others wait.
	n3 := start(t, api, "n3", addresses)
	none := map[netip.Addr]bool{}
	for a := range addresses {
		none[a] = a != first
	}
	alive.Set(none)
	holder(t, first, 10*time.Second, n3)
	if alive.link.has(first) {
		t.Error("a node holds an address that it is not eligible for")
	}
	alive.stop()
	for a := range addresses {
		holder(t, a, 10*time.Second, n3)
	}
	n3.Set(map[netip.Addr]bool{})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); n3.link.has(first); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("an address that no service has is still held")
		}
	}
}
