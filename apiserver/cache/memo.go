package cache

import (
	"sync"
	"time"
)

// How long encoded forms are worth keeping when nobody asks for them any more.
const memoAge = 2 * time.Minute

// memo bounds the bytes of encoded forms that all items remember together: beyond the bound the oldest go, and those
// past their age go with the next sweep. An item whose forms went encodes again when asked.
type memo struct {
	max int // bytes

	mu    sync.Mutex
	queue []memoEntry // oldest first, from start on
	start int
	bytes int
}

type memoEntry struct {
	item  *Item
	bytes int
	when  time.Time
}

// entryCost is about what an entry costs beside its bytes.
const entryCost = 128

func (m *memo) add(it *Item, bytes int) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue = append(m.queue, memoEntry{it, bytes + entryCost, now})
	m.bytes += bytes + entryCost
	for m.bytes > m.max && m.start < len(m.queue) {
		m.dropOldest()
	}
}

// size is the bytes that are remembered.
func (m *memo) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// sweep drops what is past its age.
func (m *memo) sweep(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.start < len(m.queue) && now.Sub(m.queue[m.start].when) > memoAge {
		m.dropOldest()
	}
}

// dropOldest forgets all forms of the item whose form is oldest: its later entries count until their turn comes.
func (m *memo) dropOldest() {
	e := &m.queue[m.start]
	e.item.encodings.Store(nil)
	m.bytes -= e.bytes
	*e = memoEntry{}
	m.start++
	if m.start == len(m.queue) {
		m.queue, m.start = m.queue[:0], 0
	}
	if m.start > 1024 && m.start > len(m.queue)/2 {
		n := copy(m.queue, m.queue[m.start:])
		clear(m.queue[n:])
		m.queue, m.start = m.queue[:n], 0
	}
}
