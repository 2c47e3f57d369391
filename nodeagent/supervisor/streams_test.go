package supervisor

import (
	"errors"
	"testing"

	"hardway/nodeagent/container"
	"hardway/nodeagent/supervisor/engine"
	"hardway/nodeagent/supervisor/wire"
)

// TestAbandonedExec asks for a process while another is being started and hangs up: it must not be started later.
func TestAbandonedExec(t *testing.T) {
	busy := make(chan struct{}, 1)
	busy <- struct{}{}
	gone := make(chan struct{})
	close(gone)
	for name, turn := range map[string]chan struct{}{"in the queue": busy, "at its turn": make(chan struct{}, 1)} {
		s := &Supervisor{containers: map[string]*entry{"c": {c: &engine.Container{}, turn: turn, status: container.Status{State: container.Running}}}}
		_, _, err := s.startExec(wire.Request{ID: "c", Exec: &wire.Exec{Args: []string{"true"}}}, nil, gone)
		if !errors.Is(err, errHungUp) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
