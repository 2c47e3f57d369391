// Package bind carries decisions out while the scheduling loop goes on, and tells users what became of their pods: the
// binding, the eviction of pods that must make room, the condition PodScheduled of a pod without a node, and Events for
// all of them.
package bind

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hardway/scheduler/framework"
	"hardway/shared/client"
)

// atOnce is how many requests are under way at most; then new ones wait, which slows the loop down to what the API can
// take.
const atOnce = 200

// patience is how long one request may take.
const patience = 15 * time.Second

// ErrStale means that a decision was so old when it could be carried out that another scheduler may lead by now.
var ErrStale = errors.New("the decision is too old, another scheduler may lead by now")

// Recorder writes Events.
type Recorder interface {
	Event(obj runtime.Object, eventtype, reason, format string, args ...any)
}

// Binder sends decisions to the API. Make it with New.
type Binder struct {
	api    *client.API
	events Recorder
	log    *zap.Logger
	fresh  time.Duration // how old a decision may be when it is sent; 0: any age
	slots  chan struct{}
	flying sync.WaitGroup
	batches

	// Observe is told how long the extension points after the decision took, and what is done beside the loop for PostFilter (Preemption);
	// nil: nobody wants to know.
	Observe func(point, profile string, began time.Time, err error)
}

// New makes a Binder. Decisions older than fresh are not carried out, if fresh is not 0.
func New(api *client.API, events Recorder, fresh time.Duration, log *zap.Logger) *Binder {
	return &Binder{api: api, events: events, log: log, fresh: fresh, slots: make(chan struct{}, atOnce)}
}

// UnderWay is how many requests are sent or about to be.
func (b *Binder) UnderWay() int { return len(b.slots) }

// Wait blocks until no request is under way.
func (b *Binder) Wait() { b.flying.Wait() }

// do runs f beside the caller; false when ctx ended before there was room.
func (b *Binder) do(ctx context.Context, f func(ctx context.Context)) bool {
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	b.flying.Go(func() {
		defer func() { <-b.slots }()
		// A decision that has been taken is carried out, even while the daemon stops.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		f(ctx)
	})
	return true
}

// Task is a decision to be carried out.
type Task struct {
	Pod     *framework.Pod
	Node    string
	Profile *framework.Profile
	State   func(plugin string) any // what PreFilter of a plugin computed
	Decided time.Time
}

// Bind does what must be done before, tells the API that the pod goes to the node, and done what came of it, from
// another goroutine. An error means that the pod has no node by this try.
func (b *Binder) Bind(ctx context.Context, t Task, done func(error)) {
	if t.waits() { // perhaps for minutes, so not in a slot
		b.flying.Go(func() {
			err := error(ErrStale)
			if b.timely(t.Decided) {
				err = b.prepare(ctx, &t)
			}
			if err == nil && ctx.Err() != nil {
				err = ErrStale // the lead was lost meanwhile
			}
			if err != nil {
				b.refused(t, err)
				done(err)
				return
			}
			t.Decided = time.Now() // what was waited for is confirmed now
			b.bind(ctx, t, done)
		})
		return
	}
	b.bind(ctx, t, done)
}

func (b *Binder) bind(ctx context.Context, t Task, done func(error)) {
	if all, ok := t.Profile.Bind.(framework.BindAll); ok {
		b.join(ctx, flight{t, all, done})
		return
	}
	started := b.do(ctx, func(ctx context.Context) {
		err := error(ErrStale)
		if b.timely(t.Decided) {
			began := time.Now()
			err = t.Profile.Bind.Bind(ctx, t.Pod, t.Node)
			b.observe("Bind", &t, began, err)
		}
		b.land(t, err, done)
	})
	if !started {
		b.land(t, ErrStale, done)
	}
}

// land tells all who want to know what came of a binding.
func (b *Binder) land(t Task, err error, done func(error)) {
	if err == nil {
		for _, p := range t.Profile.PostBind {
			p.PostBind(t.Pod, t.Node)
		}
		b.events.Event(t.Pod.Pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", t.Pod.Namespace, t.Pod.Name, t.Node)
	} else {
		b.refused(t, err)
	}
	done(err)
}

// timely says that no other scheduler can lead yet.
func (b *Binder) timely(decided time.Time) bool { return b.fresh == 0 || time.Since(decided) < b.fresh }

func (b *Binder) refused(t Task, err error) {
	b.log.Info("binding refused", zap.String("namespace", t.Pod.Namespace), zap.String("name", t.Pod.Name),
		zap.String("node", t.Node), zap.Error(err))
}

// waits says whether a plugin has something to do before the binding.
func (t *Task) waits() bool {
	if len(t.Profile.Permit) > 0 {
		return true
	}
	for _, p := range t.Profile.PreBind {
		if state := t.State(p.Name()); state != nil && p.Waits(state) {
			return true
		}
	}
	return false
}

func (b *Binder) observe(point string, t *Task, began time.Time, err error) {
	if b.Observe != nil {
		b.Observe(point, t.Profile.Scheduler, began, err)
	}
}

func (b *Binder) prepare(ctx context.Context, t *Task) error {
	if len(t.Profile.Permit) > 0 {
		began := time.Now()
		err := t.permit(ctx)
		if b.observe("Permit", t, began, err); err != nil {
			return err
		}
	}
	began := time.Now()
	err := t.preBind(ctx)
	b.observe("PreBind", t, began, err)
	return err
}

func (t *Task) permit(ctx context.Context) error {
	for _, p := range t.Profile.Permit {
		if err := p.Permit(ctx, t.Pod, t.Node); err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
	}
	return nil
}

func (t *Task) preBind(ctx context.Context) error {
	for _, p := range t.Profile.PreBind {
		state := t.State(p.Name())
		if state == nil || !p.Waits(state) {
			continue
		}
		if err := p.PreBind(ctx, state, t.Pod, t.Node); err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
	}
	return nil
}
