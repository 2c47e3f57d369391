package cache

import (
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"hardway/dns/wire"
	"hardway/dns/zone"
)

func image(t *testing.T, rcode int) *wire.Image {
	t.Helper()
	m := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	m.Response, m.Rcode = true, rcode
	im, err := wire.NewImage(m)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func TestLifetimes(t *testing.T) {
	c := New(100, "test", prometheus.NewRegistry())
	one, two := zone.New("a"), zone.New("a")
	now := time.Unix(1000, 0)
	c.Put([]byte("zone"), image(t, 0), "kubernetes", one, 0, now)
	c.Put([]byte("ttl"), image(t, 0), "forward", nil, 10*time.Second, now)
	c.Put([]byte("failure"), image(t, dns.RcodeServerFailure), "none", nil, time.Second, now)
	for _, test := range []struct {
		name, key string
		zone      *zone.Zone
		after     time.Duration
		good, old bool
	}{
		{"while the zone is the same", "zone", one, time.Hour, true, false},
		{"another zone", "zone", two, 0, false, false},
		{"within the TTL", "ttl", two, 10 * time.Second, true, true},
		{"after the TTL", "ttl", one, 11 * time.Second, false, true},
		{"long after the TTL", "ttl", one, time.Hour, false, false},
		{"a failure", "failure", one, time.Second, true, false},
		{"a failure later", "failure", one, 2 * time.Second, false, false},
		{"something else", "else", one, 0, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, good := c.Get([]byte(test.key), test.zone, now.Add(test.after))
			_, old := c.Stale([]byte(test.key), now.Add(test.after), time.Minute)
			if good != test.good || old != test.old {
				t.Errorf("good %v, old %v; want %v, %v", good, old, test.good, test.old)
			}
		})
	}
}

func TestPopular(t *testing.T) {
	c := New(100, "test", prometheus.NewRegistry())
	now := time.Unix(1000, 0)
	e := c.Put([]byte("a"), image(t, 0), "forward", nil, 100*time.Second, now)
	for _, test := range []struct {
		after time.Duration
		want  bool
	}{
		{1, false}, {2, false}, {30, false}, // often, but not near the end
		{91, false}, // a pause: counts as the first
		{92, false},
		{93, true},
	} {
		if got := e.Popular(now.Add(test.after*time.Second), 3, 50*time.Second, 10); got != test.want {
			t.Errorf("after %d s: %v", test.after, got)
		}
	}
	if !e.Claim(now, time.Second) || e.Claim(now, time.Second) || !e.Claim(now.Add(time.Second), time.Second) {
		t.Error("one claim in each pause is wanted")
	}
}
