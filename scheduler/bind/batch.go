package bind

import (
	"context"
	"sync"
	"time"

	"hardway/scheduler/framework"
)

// together is how many bindings are sent at once. The API server carries them out one after the other, so with more of them the last ones would
// wait, and fewer would be under way at once than others ask of a busy server.
const together = 4

// batches are the bindings that wait to be sent. While nobody sends, the first one goes at once and alone; those that come until it is
// answered go together, and when more wait than go together, another goroutine begins to send. So nobody waits for company, and the busier the
// scheduler is, the less a binding costs.
type batches struct {
	mu       sync.Mutex
	waiting  []flight // guarded by mu
	senders  int      // goroutines in send; guarded by mu
	starting int      // those of them that have not looked yet; guarded by mu
}

// flight is a binding that holds a slot.
type flight struct {
	Task
	bind framework.BindAll
	done func(error)
}

// join puts a binding among those to be sent.
func (b *Binder) join(ctx context.Context, f flight) {
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		b.land(f.Task, ErrStale, f.done)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, f)
	if b.senders == 0 || len(b.waiting) > together*(1+b.starting) {
		b.senders++
		b.starting++
		b.flying.Go(b.send)
	}
}

// send sends what waits, until nothing does.
func (b *Binder) send() {
	for batch := b.take(true); len(batch) > 0; batch = b.take(false) {
		b.carryOut(batch)
	}
}

// take returns the oldest flights of one profile. Who gets none must not send any more.
func (b *Binder) take(first bool) []flight {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first {
		b.starting--
	}
	n := 0
	for n < min(together, len(b.waiting)) && b.waiting[n].Profile == b.waiting[0].Profile {
		n++
	}
	if n == 0 {
		b.senders--
		return nil
	}
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	return batch
}

func (b *Binder) carryOut(batch []flight) {
	// A decision that has been taken is carried out, even while the daemon stops.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list := make([]framework.Binding, 0, len(batch))
	for _, f := range batch {
		if b.timely(f.Decided) {
			list = append(list, framework.Binding{Pod: f.Pod, Node: f.Node})
		}
	}
	began := time.Now()
	if len(list) > 0 {
		batch[0].bind.BindAll(ctx, list)
	}
	for _, f := range batch {
		err := error(ErrStale)
		if len(list) > 0 && list[0].Pod == f.Pod {
			err = list[0].Err
			list = list[1:]
			b.observe("Bind", &f.Task, began, err)
		}
		<-b.slots
		b.land(f.Task, err, f.done)
	}
}
