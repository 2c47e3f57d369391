package etcd

import (
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

func start(t *testing.T, o Options) *Server {
	t.Helper()
	o.Log = zaptest.NewLogger(t)
	begin := time.Now()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("serving after %s", time.Since(begin))
	return s
}

func TestRestartKeepsWhatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{DataDir: dir})
	put, err := s.Client().Put(t.Context(), "/registry/a", "1")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Revision()(); got != put.Header.Revision {
		t.Errorf("Revision() = %d right after writing revision %d", got, put.Header.Revision)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	s.Stop()

	s = start(t, Options{DataDir: dir})
	defer s.Stop()
	got, err := s.Client().Get(t.Context(), "/registry/a")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "1" || got.Kvs[0].ModRevision != put.Header.Revision {
		t.Errorf("after restart: %v", got.Kvs)
	}
}
