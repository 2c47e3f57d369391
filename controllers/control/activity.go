package control

import (
	"fmt"
	"time"

	"hardway/shared/reconcile"
)

// Activity is what the queues of one controller are doing, for people who look.
type Activity struct{ queues []*Queue } // complete once the controller is made

// Failure is an error that a controller met.
type Failure struct {
	Key   string    `json:"key"` // of the object
	Error string    `json:"error"`
	Time  time.Time `json:"time"`
}

// Noted returns an Env for one controller, and where its queues are noted.
func (e Env) Noted() (Env, *Activity) {
	e.activity = &Activity{}
	return e, e.activity
}

// Waiting is the number of keys that wait.
func (a *Activity) Waiting() int {
	n := 0
	for _, q := range a.queues {
		n += q.Len()
	}
	return n
}

// LastFailure is the newest one since the process began, nil when there was none.
func (a *Activity) LastFailure() *Failure {
	var newest *Failure
	for _, q := range a.queues {
		if f := q.last.Load(); f != nil && (newest == nil || f.Time.After(newest.Time)) {
			newest = f
		}
	}
	return newest
}

// tooLong is how long one pass over one object may take: what takes longer hangs.
const tooLong = time.Hour

// Health says which object a worker hangs at; nil when none does.
func (a *Activity) Health(now time.Time) (err error) {
	for _, q := range a.queues {
		q.running.Range(func(key, since any) bool {
			if took := now.Sub(since.(time.Time)); took > tooLong {
				err = fmt.Errorf("%s has worked on %v for %v", q.name, key.(reconcile.Key), took.Round(time.Second))
			}
			return err == nil
		})
	}
	return err
}
