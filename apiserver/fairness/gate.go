package fairness

import (
	"context"
	"sync"
	"time"
)

// Why a request was sent away.
const (
	QueueFull = "queue-full"
	TimeOut   = "time-out"
	NoSeat    = "concurrency-limit"
	Cancelled = "cancelled"
)

// Gate lets requests in.
type Gate struct {
	mu     sync.Mutex // guards what follows
	plan   *Plan
	states map[string]*state // by level
	order  []*state
	turn   int // whose turn it is to be looked at first
}

// state is what happens at one level.
type state struct {
	*level
	running int
	waiting int
	queues  [][]*ticket
	next    int // the queue whose turn it is
}

// ticket is a request that waits.
type ticket struct {
	let  chan struct{} // closed when the request may go in
	gone bool          // it does not wait any more
}

// NewGate makes a gate.
func NewGate(p *Plan) *Gate {
	g := &Gate{}
	g.Set(p)
	return g
}

// Set changes the plan. Who is inside stays inside, and counts; who waits at a level that has changed is let in as seats
// become free, those of a level that is gone at once.
func (g *Gate) Set(p *Plan) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.states
	g.plan, g.states, g.order = p, map[string]*state{}, nil
	for name, l := range p.levels {
		s := old[name]
		if s == nil {
			s = &state{}
		}
		delete(old, name)
		s.level = l
		if n := max(l.queues, len(s.queues)); n > len(s.queues) {
			s.queues = append(s.queues, make([][]*ticket, n-len(s.queues))...)
		}
		g.states[name] = s
		g.order = append(g.order, s)
	}
	for _, s := range old {
		for t := s.pop(); t != nil; t = s.pop() {
			s.running++
			close(t.let)
		}
	}
	g.dispatch()
}

// Find follows a request to its place.
func (g *Gate) Find(find func(*Plan) Place) Place {
	g.mu.Lock()
	p := g.plan
	g.mu.Unlock()
	return find(p)
}

// Enter waits for a seat. leave gives it back; why says that there was none: then leave is nil.
func (g *Gate) Enter(ctx context.Context, at Place, patience time.Duration) (leave func(), why string) {
	if at.Exempt {
		return func() {}, ""
	}
	g.mu.Lock()
	s := g.states[at.Level]
	if s == nil {
		g.mu.Unlock()
		return func() {}, "" // its level went meanwhile
	}
	leave = func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		s.running--
		g.dispatch()
	}
	if s.waiting == 0 && g.free(s) {
		s.running++
		g.mu.Unlock()
		return leave, ""
	}
	t, why := s.join(at.flow)
	g.mu.Unlock()
	if why != "" {
		return nil, why
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-t.let:
		return leave, ""
	case <-timer.C:
		why = TimeOut
	case <-ctx.Done():
		why = Cancelled
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-t.let: // just now
		return leave, ""
	default:
	}
	t.gone = true
	s.waiting--
	return nil, why
}

// free says whether a level may have another seat: one of its own, or one that others lend.
func (g *Gate) free(s *state) bool {
	if s.running < s.seats {
		return true
	}
	if s.borrows >= 0 && s.running >= s.seats+s.borrows {
		return false
	}
	spare := 0
	for _, o := range g.order {
		if over := o.running - o.seats; over > 0 {
			spare -= over // what it has borrowed already
		} else {
			spare += min(o.lends, -over)
		}
	}
	return spare > 0
}

// join puts a request into the shortest queue of its flow's hand.
func (s *state) join(flow uint64) (*ticket, string) {
	if s.level.queues == 0 {
		return nil, NoSeat
	}
	best := -1
	for _, q := range hand(flow, s.level.queues, s.level.hand) {
		if best < 0 || len(s.queues[q]) < len(s.queues[best]) {
			best = q
		}
	}
	s.queues[best] = waitingIn(s.queues[best])
	if len(s.queues[best]) >= s.length {
		return nil, QueueFull
	}
	t := &ticket{let: make(chan struct{})}
	s.queues[best] = append(s.queues[best], t)
	s.waiting++
	return t, ""
}

// waitingIn drops those who have gone from a queue that is long.
func waitingIn(q []*ticket) []*ticket {
	kept := q[:0]
	for _, t := range q {
		if !t.gone {
			kept = append(kept, t)
		}
	}
	clear(q[len(kept):])
	return kept
}

// hand deals size different queues of a number to a flow.
func hand(flow uint64, queues, size int) []int {
	dealt := make([]int, 0, size)
	for i := range min(size, queues) {
		left := uint64(queues - i)
		card := int(flow % left)
		flow /= left
		if flow == 0 {
			flow = mix(uint64(card) + uint64(i)*0x9e3779b97f4a7c15 + 1)
		}
		// The card-th of those that are not dealt yet.
		for _, d := range dealt {
			if card >= d {
				card++
			}
		}
		dealt = insert(dealt, card)
	}
	return dealt
}

// insert keeps the dealt cards in order, which makes counting the others easy.
func insert(sorted []int, card int) []int {
	i := len(sorted)
	for i > 0 && sorted[i-1] > card {
		i--
	}
	sorted = append(sorted, 0)
	copy(sorted[i+1:], sorted[i:])
	sorted[i] = card
	return sorted
}

// pop takes the next who waits, queue by queue; nil: nobody.
func (s *state) pop() *ticket {
	for range s.queues {
		q := s.queues[s.next]
		for len(q) > 0 && q[0].gone {
			q = q[1:]
		}
		at := s.next
		s.next = (s.next + 1) % len(s.queues)
		if len(q) > 0 {
			s.queues[at] = q[1:]
			s.waiting--
			return q[0]
		}
		s.queues[at] = nil
	}
	return nil
}

// dispatch lets in who waits, as long as there are seats; the levels in turn.
func (g *Gate) dispatch() {
	for again := true; again; {
		again = false
		for i := range g.order {
			s := g.order[(g.turn+i)%len(g.order)]
			if s.waiting == 0 || !g.free(s) {
				continue
			}
			if t := s.pop(); t != nil {
				s.running++
				close(t.let)
				again = true
			}
		}
		g.turn++
	}
}

// Level is how busy a level is.
type Level struct {
	Name                    string
	Seats, Running, Waiting int
}

// Levels tells how busy they are.
func (g *Gate) Levels() []Level {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Level, 0, len(g.order))
	for _, s := range g.order {
		out = append(out, Level{s.name, s.seats, s.running, s.waiting})
	}
	return out
}
