package cache

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// Event is one change as a watcher sees it: after selection, so that an object that leaves the selection is a DELETED.
type Event struct {
	Type watch.EventType // ADDED, MODIFIED, DELETED, BOOKMARK
	// Item is the object after the change; for DELETED the last state that was selected, with the revision of the
	// event as its resourceVersion. Nil for a BOOKMARK.
	Item *Item
	Rev  int64
	// InitialEnd marks the bookmark that ends the initial events (annotation k8s.io/initial-events-end).
	InitialEnd bool
}

// change is what happened to one key, shared by all watchers. Old is nil when it was created, new when it was deleted.
type change struct {
	rev      int64
	when     time.Time
	old, new *Item

	goneOnce sync.Once
	goneItem *Item
}

// gone is the old item with the change's revision.
func (c *change) gone() *Item {
	c.goneOnce.Do(func() { c.goneItem = c.old.at(c.rev) })
	return c.goneItem
}

// seenBy turns the change into what a watcher sees; ok is false when it sees nothing.
func (c *change) seenBy(s *Selection) (e Event, ok bool) {
	was := c.old != nil && s.Matches(c.old)
	is := c.new != nil && s.Matches(c.new)
	switch {
	case is && was:
		return Event{Type: watch.Modified, Item: c.new, Rev: c.rev}, true
	case is:
		return Event{Type: watch.Added, Item: c.new, Rev: c.rev}, true
	case was:
		return Event{Type: watch.Deleted, Item: c.gone(), Rev: c.rev}, true
	}
	return Event{}, false
}
