package server

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pulse
		if err := p.check(t.Context()); err != nil {
			t.Errorf("before the first turn: %v", err)
		}
		p.beat()
		time.Sleep(standstill)
		if err := p.check(t.Context()); err != nil {
			t.Errorf("within a long turn: %v", err)
		}
		time.Sleep(time.Second)
		if p.check(t.Context()) == nil {
			t.Error("a loop that stands still counts as alive")
		}
		p.beat()
		if err := p.check(t.Context()); err != nil {
			t.Errorf("after it turned again: %v", err)
		}
	})
}
