package daemon

import (
	"context"
	"fmt"
	"slices"
)

// Group runs the long-lived parts of a daemon.
type Group struct{ parts []part }

type part struct {
	name string
	run  func(ctx context.Context) error
}

// Add appends a part. Run of a part blocks until its context ends.
func (g *Group) Add(name string, run func(ctx context.Context) error) {
	g.parts = append(g.parts, part{name, run})
}

// Run starts the parts in order and blocks until ctx ends or one part returns. Then the others are stopped one by one
// in reverse order, each awaited before the one before it is told. It returns the first failure.
func (g *Group) Run(ctx context.Context) error {
	type ended struct {
		part int
		err  error
	}
	ends := make(chan ended, len(g.parts))
	stops := make([]context.CancelFunc, len(g.parts))
	done := make([]chan struct{}, len(g.parts))
	for i, p := range g.parts {
		// Detached from ctx, so that its end does not reach all parts at once.
		partCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		stops[i], done[i] = stop, make(chan struct{})
		go func() {
			defer close(done[i])
			err := p.run(partCtx)
			if partCtx.Err() != nil {
				err = nil // it was told to stop
			}
			ends <- ended{i, err}
		}()
	}
	var failure error
	select {
	case <-ctx.Done():
	case e := <-ends:
		if failure = e.err; failure == nil && ctx.Err() == nil {
			failure = fmt.Errorf("%s ended unexpectedly", g.parts[e.part].name)
		} else if failure != nil {
			failure = fmt.Errorf("%s: %w", g.parts[e.part].name, failure)
		}
	}
	for i := range slices.Backward(g.parts) {
		stops[i]()
		<-done[i]
	}
	return failure
}
