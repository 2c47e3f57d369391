package review

import (
	"crypto/sha256"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Answers remembers a bounded number of answers, each until its time is over; those that were not asked for longest are
// forgotten first. Questions are kept as hashes, because tokens are among them. It is safe for concurrent use.
type Answers[V any] struct {
	by *lru.Cache[[sha256.Size]byte, remembered[V]]
}

type remembered[V any] struct {
	answer V
	until  time.Time
}

// NewAnswers remembers so many.
func NewAnswers[V any](size int) *Answers[V] {
	by, err := lru.New[[sha256.Size]byte, remembered[V]](size)
	if err != nil {
		panic(err) // sizes are constants
	}
	return &Answers[V]{by}
}

// Get returns the answer to a question, if it still holds.
func (a *Answers[V]) Get(question []byte, now time.Time) (answer V, ok bool) {
	r, ok := a.by.Get(sha256.Sum256(question))
	if !ok || !now.Before(r.until) {
		var none V
		return none, false
	}
	return r.answer, true
}

// Add remembers an answer until then.
func (a *Answers[V]) Add(question []byte, answer V, until time.Time) {
	a.by.Add(sha256.Sum256(question), remembered[V]{answer, until})
}
