package cache

import (
	"sort"
	"time"
)

// How much history a kind keeps: at least historyMin changes; more as long as they are younger than historyAge, which
// is longer than the time between bookmarks; never more than historyMax.
const (
	historyMin = 128
	historyMax = 50_000
	historyAge = 90 * time.Second
)

// history is a ring of the latest changes in order of revision.
type history struct {
	ring  []*change
	start int
	len   int
	// since is the revision after which every change is in the ring.
	since int64
}

func (h *history) at(i int) *change { return h.ring[(h.start+i)%len(h.ring)] }

// add appends a change and lets go of those past the bounds.
func (h *history) add(c *change) {
	h.trim(c.when)
	if h.len >= historyMax {
		h.drop()
	}
	if h.len == len(h.ring) {
		h.resize(max(historyMin, 2*h.len))
	}
	h.ring[(h.start+h.len)%len(h.ring)] = c
	h.len++
}

// trim lets go of changes past their age as long as there are historyMin of them.
func (h *history) trim(now time.Time) {
	for h.len >= historyMin && now.Sub(h.at(0).when) > historyAge {
		h.drop()
	}
}

// sweep is for kinds where nothing happens any more: what is past its age goes, but for a few.
func (h *history) sweep(now time.Time) {
	h.trim(now)
	if h.len < len(h.ring)/4 && len(h.ring) > historyMin {
		h.resize(max(historyMin, 2*h.len))
	}
}

func (h *history) drop() {
	h.since = h.at(0).rev
	h.ring[h.start] = nil
	h.start = (h.start + 1) % len(h.ring)
	h.len--
}

func (h *history) resize(size int) {
	ring := make([]*change, size)
	for i := range h.len {
		ring[i] = h.at(i)
	}
	h.ring, h.start = ring, 0
}

// after returns the index of the first change after a revision.
func (h *history) after(rev int64) int {
	return sort.Search(h.len, func(i int) bool { return h.at(i).rev > rev })
}

// prepend puts earlier changes before those that are there, up to the bound.
func (h *history) prepend(past []*change, since int64) {
	if over := len(past) + h.len - historyMax; over > 0 {
		over = min(over, len(past))
		if over > 0 {
			since = past[over-1].rev
		}
		past = past[over:]
	}
	ring := make([]*change, max(historyMin, len(past)+h.len))
	n := copy(ring, past)
	for i := range h.len {
		ring[n+i] = h.at(i)
	}
	h.ring, h.start, h.len, h.since = ring, 0, n+h.len, since
}

// reset forgets everything: history begins at rev.
func (h *history) reset(rev int64) { *h = history{since: rev} }
