// Package cache remembers packed answers.
//
// It is bounded by entries: the one that was used least recently goes first. Answers from the zone are good while the zone is the same; all others
// for their TTL, and a while longer for the case that nobody upstream answers (RFC 8767).
package cache

import (
	"hash/maphash"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"hardway/dns/wire"
	"hardway/dns/zone"
)

// shardCount divides the lock that a lookup takes.
const shardCount = 16

// staleFor is how long an answer is kept after its TTL.
const staleFor = time.Hour

// Entry is one answer.
type Entry struct {
	Image *wire.Image
	// By is the handler that made it.
	By string

	key     string
	zone    *zone.Zone // nil: good until expires
	stored  time.Time
	expires time.Time
}

// Age is how many seconds the TTLs have run; answers from the zone do not age.
func (e *Entry) Age(now time.Time) uint32 {
	if e.zone != nil {
		return 0
	}
	return uint32(max(0, now.Sub(e.stored)) / time.Second)
}

// Cache is safe for concurrent use.
type Cache struct {
	seed   maphash.Seed
	shards [shardCount]*lru.Cache[uint64, *Entry]

	hits, denied, misses prometheus.Counter
}

// New makes a cache for so many answers and counts on reg, under CoreDNS's names. server is the value of their label.
func New(entries int, server string, reg prometheus.Registerer) *Cache {
	hits := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coredns_cache_hits_total", Help: "The count of cache hits."},
		[]string{"server", "type", "zones", "view"})
	misses := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coredns_cache_misses_total", Help: "The count of cache misses."},
		[]string{"server", "zones", "view"})
	c := &Cache{seed: maphash.MakeSeed(), hits: hits.WithLabelValues(server, "success", ".", ""), denied: hits.WithLabelValues(server, "denial", ".", ""),
		misses: misses.WithLabelValues(server, ".", "")}
	for i := range c.shards {
		c.shards[i], _ = lru.New[uint64, *Entry](max(1, entries/shardCount)) // fails only for a size below 1
	}
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "coredns_cache_entries", Help: "The number of elements in the cache.",
		ConstLabels: prometheus.Labels{"server": server, "type": "success", "zones": ".", "view": ""}}, func() float64 { return float64(c.Len()) })
	reg.MustRegister(hits, misses, size)
	return c
}

// Len is the number of answers.
func (c *Cache) Len() int {
	n := 0
	for _, s := range c.shards {
		n += s.Len()
	}
	return n
}

// Get finds a good answer for a query's key.
func (c *Cache) Get(key []byte, z *zone.Zone, now time.Time) (*Entry, bool) {
	e, ok := c.find(key)
	if !ok || e.zone != nil && e.zone != z || e.zone == nil && now.After(e.expires) {
		c.misses.Inc()
		return nil, false
	}
	if e.Image.Rcode() == 0 {
		c.hits.Inc()
	} else {
		c.denied.Inc()
	}
	return e, true
}

// Stale finds an answer from outside the cluster whose TTL has run out.
func (c *Cache) Stale(key []byte, now time.Time) (*Entry, bool) {
	e, ok := c.find(key)
	return e, ok && e.zone == nil && now.Before(e.expires.Add(staleFor))
}

func (c *Cache) find(key []byte) (*Entry, bool) {
	h := maphash.Bytes(c.seed, key)
	e, ok := c.shards[h%shardCount].Get(h)
	// Two keys may have one hash; then the later one has the place.
	return e, ok && e.key == string(key)
}

// Put remembers an answer: with a zone for as long as the zone is the same, else for ttl.
func (c *Cache) Put(key []byte, image *wire.Image, by string, z *zone.Zone, ttl time.Duration, now time.Time) *Entry {
	e := &Entry{Image: image, By: by, key: string(key), zone: z, stored: now, expires: now.Add(ttl)}
	h := maphash.Bytes(c.seed, key)
	c.shards[h%shardCount].Add(h, e)
	return e
}
