package server

import (
	"sync"
	"time"
)

// fullMailbox is how many changes may wait for the loop before those who watch the API are held up.
const fullMailbox = 20_000

// mailbox is what others want done by the loop, in order.
type mailbox struct {
	arrived chan struct{} // holds one when there may be something to take

	mu     sync.Mutex
	room   *sync.Cond
	items  []func(now time.Time) // guarded by mu
	closed bool                  // guarded by mu
}

func newMailbox() *mailbox {
	m := &mailbox{arrived: make(chan struct{}, 1)}
	m.room = sync.NewCond(&m.mu)
	return m
}

// post adds f, waiting while the mailbox is full; false when the loop has ended.
func (m *mailbox) post(f func(now time.Time)) bool {
	m.mu.Lock()
	for len(m.items) >= fullMailbox && !m.closed {
		m.room.Wait()
	}
	return m.add(f)
}

// deliver adds f without waiting: for results of what the loop itself began, which are bounded by that, and which the
// loop may be waiting for.
func (m *mailbox) deliver(f func(now time.Time)) {
	m.mu.Lock()
	m.add(f)
}

// add unlocks m.mu.
func (m *mailbox) add(f func(now time.Time)) bool {
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.items = append(m.items, f)
	select {
	case m.arrived <- struct{}{}:
	default:
	}
	return true
}

// take returns all that has arrived.
func (m *mailbox) take() []func(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := m.items
	m.items = nil
	if len(items) >= fullMailbox {
		m.room.Broadcast()
	}
	return items
}

// close lets nobody wait any more.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.room.Broadcast()
}
