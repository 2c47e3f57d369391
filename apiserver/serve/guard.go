package serve

import (
	"net/http"
	"sync"
	"time"
)

// stall is how long one write may wait for a client that does not read. Then the answer is cut: whoever reads nothing
// for so long must not hold a place among the requests in flight, nor a watch.
const stall = 30 * time.Second

// guard cuts writes that stall. Arming it costs a timer's reset, no system call and no message to the connection.
type guard struct {
	timer *time.Timer

	mu   sync.Mutex
	done bool // guarded by mu; the handler has returned and w must not be touched
}

// newGuard watches over the writes to w until close.
func newGuard(w http.ResponseWriter) *guard {
	g := &guard{}
	g.timer = time.AfterFunc(stall, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.done {
			// A deadline in the past ends the write that waits.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
		}
	})
	g.timer.Stop()
	return g
}

// write calls one write under guard.
func (g *guard) write(f func() error) error {
	g.timer.Reset(stall)
	err := f()
	g.timer.Stop()
	return err
}

// close ends the guard. It must be called before the handler returns.
func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = true
	g.timer.Stop()
}
