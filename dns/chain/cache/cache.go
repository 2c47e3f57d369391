// Package cache remembers packed answers.
//
// It is bounded by entries: the one that was used least recently goes first. Answers from the zone are good while the zone is the same; all others
// for their TTL, and stay as long as there is room, for the case that nobody upstream answers (RFC 8767).
package cache

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"hardway/dns/wire"
	"hardway/dns/zone"
)

// shardCount divides the lock that a lookup takes.
const shardCount = 16

// Entry is one answer.
type Entry struct {
	Image *wire.Image
	// By is the handler that made it.
	By string

	key     string
	zone    *zone.Zone // nil: good until expires
	stored  time.Time
	expires time.Time

	hits    atomic.Int32 // without a pause between two of them
	last    atomic.Int64 // when the last was, Unix time in nanoseconds
	renewed atomic.Int64 // no sooner than this somebody should ask for it anew
}

// Popular counts a use and reports whether the answer, which will run out when only percent of its time are left, was used so often without a pause
// that asking for it anew is worth while.
func (e *Entry) Popular(now time.Time, amount int, gap time.Duration, percent int) bool {
	if e.zone != nil || amount == 0 || e.Image.Rcode() == serverFailure {
		return false
	}
	at := now.UnixNano()
	if before := e.last.Swap(at); at-before > int64(gap) {
		e.hits.Store(0)
	}
	return e.hits.Add(1) >= int32(amount) && e.expires.Sub(now)*100 < e.expires.Sub(e.stored)*time.Duration(percent)
}

// Claim is true for one caller in each pause: that one asks for the answer anew.
func (e *Entry) Claim(now time.Time, pause time.Duration) bool {
	at := e.renewed.Load()
	return now.UnixNano() >= at && e.renewed.CompareAndSwap(at, now.Add(pause).UnixNano())
}

// serverFailure is the response code that says nothing about a name.
const serverFailure = 2

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

// Stale finds an answer from outside the cluster whose TTL has run out less than so long ago.
func (c *Cache) Stale(key []byte, now time.Time, most time.Duration) (*Entry, bool) {
	e, ok := c.find(key)
	return e, ok && e.zone == nil && now.Before(e.expires.Add(most)) && e.Image.Rcode() != serverFailure
}

// Resize changes how many answers are remembered.
func (c *Cache) Resize(entries int) {
	for _, s := range c.shards {
		s.Resize(max(1, entries/shardCount))
	}
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
