package serve

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// stuck is a response that nobody reads: a write waits until its deadline passes.
type stuck struct {
	http.ResponseWriter
	freed chan struct{}
}

func (s *stuck) Write([]byte) (int, error) {
	<-s.freed
	return 0, http.ErrHandlerTimeout
}

func (s *stuck) SetWriteDeadline(t time.Time) error {
	if t.Before(time.Now()) {
		close(s.freed)
	}
	return nil
}

func TestStalledWritesAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{httptest.NewRecorder(), make(chan struct{})}
		g := newGuard(s)
		start := time.Now()
		if err := g.write(func() error { _, err := s.Write(nil); return err }); err == nil {
			t.Error("the write succeeded")
		}
		if took := time.Since(start); took != stall {
			t.Errorf("cut after %s", took)
		}
		g.close()
	})
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{httptest.NewRecorder(), make(chan struct{})}
		g := newGuard(s)
		if err := g.write(func() error { <-time.After(stall / 2); return nil }); err != nil {
			t.Error(err)
		}
		<-time.After(2 * stall) // an idle watch
		g.close()
		<-time.After(2 * stall)
		select {
		case <-s.freed:
			t.Error("a connection without a waiting write was cut")
		default:
		}
	})
}
