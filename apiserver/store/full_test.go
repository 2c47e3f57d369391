package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hardway/apiserver/etcd"
)

// A full store refuses what grows, goes on with what does not, and takes new objects again once room was made, without
// anybody defragmenting anything (row A4).
func TestFullStoreHeals(t *testing.T) {
	e, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir() + "/etcd", Quota: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	s := New(e.Client(), Options{Full: e.Full})
	value := []byte(strings.Repeat("x", 256<<10))
	pulse, err := s.Create(t.Context(), "/registry/pulse", []byte("x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	revs := fill(t, s, value)

	if err := s.MayGrow(len(value), len(value)+smallGrowth); err != nil {
		t.Errorf("growing a little: %v", err)
	}
	if err := s.MayGrow(len(value), len(value)+smallGrowth+1); !errors.Is(err, ErrNoSpace) {
		t.Errorf("growing much: %v, want %v", err, ErrNoSpace)
	}
	var last int64
	for key, rev := range revs {
		if rev, err = s.Update(t.Context(), key, value, rev, 0); err != nil {
			t.Fatalf("update in a full store: %v", err)
		}
		if last, err = s.Delete(t.Context(), key, rev); err != nil {
			t.Fatalf("delete in a full store: %v", err)
		}
	}
	if space, err := e.Space(t.Context()); err != nil || space.Err() != nil {
		t.Errorf("etcd itself has refused: %+v, %v", space, err)
	}
	c := compactor{rev: last}
	if done, err := c.step(t.Context(), e.Client()); err != nil || done != last {
		t.Fatalf("compact: to %d, %v", done, err)
	}
	// The database counts a page as free only in the writes after the one that gave it back. A cluster always writes a
	// little: the Leases of its nodes.
	eventually(t, func() bool {
		if pulse, err = s.Update(t.Context(), "/registry/pulse", []byte("x"), pulse, 0); err != nil {
			t.Fatalf("a small update in a full store: %v", err)
		}
		return !s.Full()
	})
	if _, err := s.Create(t.Context(), "/registry/again", value, 0); err != nil {
		t.Errorf("create after room was made: %v", err)
	}
}

// fill creates until the store is full.
func fill(t *testing.T, s *Store, value []byte) map[string]int64 {
	t.Helper()
	revs := map[string]int64{}
	for i := range 1000 {
		key := fmt.Sprintf("/registry/%03d", i)
		rev, err := s.Create(t.Context(), key, value, 0)
		if errors.Is(err, ErrNoSpace) {
			return revs
		}
		if err != nil {
			t.Fatal(err)
		}
		revs[key] = rev
	}
	t.Fatal("the store never was full")
	return nil
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("it did not happen")
		case <-tick.C:
		}
	}
}
