package robustness

import (
	"sync"
	"time"
)

// Outcome is what a client knows about its request afterwards.
type Outcome int

// The outcomes. Of an Unknown write nobody can say whether it took place: the connection broke, or time ran out.
const (
	Done Outcome = iota
	Refused
	Unknown
)

// Op is one read or write of one object. Times are on the one clock of the recording process.
type Op struct {
	Key        string
	Write      bool
	Delete     bool // a write that removes the object; its version is not answered
	Start, End time.Duration
	Outcome    Outcome
	Value      string // read, or written: every write writes another value
	Base       int64  // the version that the write was to replace; 0: it creates
	Version    int64  // resourceVersion answered
	Error      string
}

// Event is what a watcher was told.
type Event struct {
	Key     string
	Version int64
	Value   string
	Deleted bool
}

// Watch is all that one watcher was told, in order.
type Watch struct {
	From   int64 // the version of the list that it began with
	Events []Event
	Gaps   []Gap // where it had to list anew, and so was told nothing of what lay between
	Until  int64 // it was told of everything up to here
	Breaks int   // how often it connected anew
}

// Gap is a part of history, without After and with Until.
type Gap struct{ After, Until int64 }

func (w *Watch) covers(version int64) bool {
	for _, g := range w.Gaps {
		if version > g.After && version <= g.Until {
			return false
		}
	}
	return version > w.From && version <= w.Until
}

// State is an object at the end.
type State struct {
	Version int64
	Value   string
}

// Run is one start of a container that must be started once.
type Run struct{ Pod, Machine string }

// History collects what all clients do.
type History struct {
	begin time.Time

	mu  sync.Mutex
	ops []Op // guarded by mu
}

// NewHistory starts the clock.
func NewHistory() *History { return &History{begin: time.Now()} }

// Now is the time on the history's clock.
func (h *History) Now() time.Duration { return time.Since(h.begin) }

// Add records a request that has ended.
func (h *History) Add(op Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// Ops returns what was recorded.
func (h *History) Ops() []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Op(nil), h.ops...)
}
