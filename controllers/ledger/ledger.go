// Package ledger remembers a controller's own writes until its cache shows them, so that a stale cache never makes it
// create or delete twice.
//
// A creation is entered under its name before the request leaves, because a request that times out may have succeeded.
// The entry goes when the cache shows the object, when the server says that it was not created, or when a direct read
// (the caller's) finds nothing. A deletion is entered under the object's uid and goes when the cache shows the object
// as deleted or being deleted. Entries never expire by themselves: a watch that is late by minutes is exactly the case
// they are for.
//
// The ledger is per owner, and so bounded by what the owner asked for; Forget drops an owner's page when the owner is
// gone. It is lost at a restart, as the cache is.
package ledger

import (
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Book is the memory of one controller. It is safe for concurrent use.
type Book struct {
	mu    sync.Mutex // guards pages
	pages map[types.UID]*page
}

type page struct {
	created map[string]birth        // by name
	deleted map[types.UID]time.Time // by uid
}

// birth is a creation that the cache does not show yet.
type birth struct {
	at   time.Time // when it was last known to be on its way
	note string    // the caller's: for which node, for which index
}

// New returns an empty book.
func New() *Book {
	return &Book{pages: map[types.UID]*page{}}
}

// Creating notes that the owner is about to create an object of that name. The note comes back from Settle.
func (b *Book) Creating(owner types.UID, name, note string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.page(owner).created[name] = birth{at: now, note: note}
}

// NotCreated takes a creation back: the server refused it, the cache shows it, or it is certainly gone.
func (b *Book) NotCreated(owner types.UID, name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pages[owner]; p != nil {
		delete(p.created, name)
		b.tidy(owner, p)
	}
}

// Deleted notes that the object with that uid was deleted for the owner.
func (b *Book) Deleted(owner, uid types.UID, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.page(owner).deleted[uid] = now
}

// Forget drops everything about an owner.
func (b *Book) Forget(owner types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pages, owner)
}

// Clear drops everything: the memory of a former term of leadership is worth less than a fresh cache.
func (b *Book) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.pages)
}

// unseen drops the creations that the cache shows by now and returns the others with their notes. Those that were
// entered longer than Doubt ago are named in doubtful as well.
func (b *Book) unseen(owner types.UID, shown func(name string) bool, now time.Time) (notes map[string]string, doubtful []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pages[owner]
	if p == nil {
		return nil, nil
	}
	notes = make(map[string]string, len(p.created))
	for name, made := range p.created {
		if shown(name) {
			delete(p.created, name)
			continue
		}
		if now.Sub(made.at) >= Doubt {
			doubtful = append(doubtful, name)
		}
		notes[name] = made.note
	}
	b.tidy(owner, p)
	slices.Sort(doubtful)
	return notes, doubtful
}

// Gone returns the uids that were deleted and that the cache still shows as living; the others are dropped. living
// reports what the cache shows.
func (b *Book) Gone(owner types.UID, living func(uid types.UID) bool) map[types.UID]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pages[owner]
	if p == nil {
		return nil
	}
	maps.DeleteFunc(p.deleted, func(uid types.UID, _ time.Time) bool { return !living(uid) })
	gone := make(map[types.UID]bool, len(p.deleted))
	for uid := range p.deleted {
		gone[uid] = true
	}
	b.tidy(owner, p)
	return gone
}

// tidy drops an empty page. The caller holds the lock.
func (b *Book) tidy(owner types.UID, p *page) {
	if len(p.created) == 0 && len(p.deleted) == 0 {
		delete(b.pages, owner)
	}
}

// page returns the owner's page, made if need be. The caller holds the lock.
func (b *Book) page(owner types.UID) *page {
	p := b.pages[owner]
	if p == nil {
		p = &page{created: map[string]birth{}, deleted: map[types.UID]time.Time{}}
		b.pages[owner] = p
	}
	return p
}

// Settle returns the owner's creations that the cache does not show yet, by name, with their notes. Those that are
// missing for longer than Doubt are asked for with exists, which reads from the server: one that is not there is
// dropped, one that is there is waited for again.
func (b *Book) Settle(owner types.UID, shown func(name string) bool, exists func(name string) (bool, error), now time.Time) (map[string]string, error) {
	notes, doubtful := b.unseen(owner, shown, now)
	for _, name := range doubtful {
		there, err := exists(name)
		switch {
		case err != nil:
			return notes, err
		case there:
			b.Creating(owner, name, notes[name], now)
		default:
			b.NotCreated(owner, name)
			delete(notes, name)
		}
	}
	return notes, nil
}

// Doubt is how long a creation may be missing from the cache before the server is asked whether it happened.
const Doubt = 10 * time.Second
