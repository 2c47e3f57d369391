package server

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// standstill is how long a turn of the loop may take before the loop counts as stuck. It turns every lookEvery at least.
const standstill = time.Minute

// pulse tells whether the loop still turns. That the API or the kernel refuses something is no reason to restart the proxy; that it hangs is.
type pulse struct{ last atomic.Pointer[time.Time] }

func (p *pulse) beat() {
	now := time.Now()
	p.last.Store(&now)
}

// check is a liveness check. It passes before the first turn, which waits for the API.
func (p *pulse) check(context.Context) error {
	last := p.last.Load()
	if last == nil {
		return nil
	}
	if still := time.Since(*last); still > standstill {
		return fmt.Errorf("the loop has stood still for %s", still.Round(time.Second))
	}
	return nil
}
