package ledger

import (
	"errors"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestCreationsAreRememberedUntilShown(t *testing.T) {
	b, now := New(), time.Now()
	shown := map[string]bool{}
	settle := func(at time.Time, exists bool, err error) (int, error) {
		notes, err := b.Settle("owner", func(n string) bool { return shown[n] }, func(string) (bool, error) { return exists, err }, at)
		return len(notes), err
	}
	b.Creating("owner", "a", "", now)
	b.Creating("owner", "b", "", now)
	b.Creating("owner", "c", "", now)
	b.NotCreated("owner", "c")
	if n, err := settle(now, false, nil); n != 2 || err != nil {
		t.Fatalf("unseen %d, %v; want 2: nothing is doubted yet", n, err)
	}
	shown["a"] = true
	if n, _ := settle(now, false, nil); n != 1 {
		t.Fatalf("unseen %d, want 1", n)
	}
	if n, err := settle(now.Add(Doubt), false, errors.New("down")); n != 1 || err == nil {
		t.Fatalf("a question without answer changes nothing: %d, %v", n, err)
	}
	if n, _ := settle(now.Add(Doubt), true, nil); n != 1 {
		t.Fatalf("one that exists is waited for: %d", n)
	}
	if n, _ := settle(now.Add(time.Hour), false, nil); n != 0 {
		t.Fatalf("one that does not exist is dropped: %d", n)
	}
	if len(b.pages) != 0 {
		t.Errorf("an empty page stays: %v", b.pages)
	}
}

func TestDeletionsAreRememberedUntilShown(t *testing.T) {
	b, now := New(), time.Now()
	b.Deleted("owner", "x", now)
	b.Deleted("owner", "y", now)
	living := []types.UID{"x", "z"}
	gone := b.Gone("owner", func(uid types.UID) bool { return slices.Contains(living, uid) })
	if len(gone) != 1 || !gone["x"] {
		t.Fatalf("gone: %v, want x only", gone)
	}
	living = nil
	if gone := b.Gone("owner", func(uid types.UID) bool { return slices.Contains(living, uid) }); len(gone) != 0 || len(b.pages) != 0 {
		t.Fatalf("gone: %v, pages %v", gone, b.pages)
	}
}

func TestForget(t *testing.T) {
	b := New()
	b.Creating("owner", "a", "", time.Now())
	b.Creating("other", "a", "", time.Now())
	b.Forget("owner")
	if len(b.pages) != 1 {
		t.Errorf("pages: %v", b.pages)
	}
	b.Clear()
	if len(b.pages) != 0 {
		t.Errorf("pages: %v", b.pages)
	}
}
