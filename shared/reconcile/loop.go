package reconcile

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
)

// Key names an object. Namespace is "" for kinds without one.
type Key struct{ Namespace, Name string }

// KeyOf returns the key of an object.
func KeyOf(obj metav1.Object) Key { return Key{obj.GetNamespace(), obj.GetName()} }

// String is namespace/name, or the name alone.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// Result says when to look at a key again without a change; zero: not before one.
type Result struct{ RequeueAfter time.Duration }

// Reconciler makes the world follow the API for one key.
type Reconciler func(ctx context.Context, key Key) (Result, error)

// Terminal marks an error that trying again cannot cure. Nil stays nil.
func Terminal(err error) error {
	if err == nil {
		return nil
	}
	return &terminal{err}
}

type terminal struct{ error }

func (t *terminal) Unwrap() error { return t.error }

// Pauses before a failed key is tried again: doubling from the first to the last.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 30 * time.Second
)

// Loop is a queue of keys and the workers that take them. A key is worked on by one worker at a time; keys added
// meanwhile, however often, are worked on once more. The queue holds each key once, so it is bounded by their number.
type Loop struct {
	name      string
	workers   int
	reconcile Reconciler
	log       *zap.Logger
	queue     workqueue.TypedRateLimitingInterface[Key]
}

// New makes a loop with the given number of workers. Its queue is counted in reg under upstream's workqueue_* names.
func New(name string, workers int, r Reconciler, log *zap.Logger, reg *prometheus.Registry) *Loop {
	return &Loop{
		name: name, workers: workers, reconcile: r, log: log.With(zap.String("controller", name)),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[Key](firstPause, lastPause),
			workqueue.TypedRateLimitingQueueConfig[Key]{Name: name, MetricsProvider: providerFor(reg)}),
	}
}

// Add asks for a key to be looked at.
func (l *Loop) Add(key Key) { l.queue.Add(key) }

// AddAfter asks for a key to be looked at later.
func (l *Loop) AddAfter(key Key, d time.Duration) { l.queue.AddAfter(key, d) }

// Len is the number of keys that wait.
func (l *Loop) Len() int { return l.queue.Len() }

// Run works until ctx ends and the workers have finished what they hold. A Loop runs once.
func (l *Loop) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range l.workers {
		wg.Go(func() {
			for l.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	l.queue.ShutDown()
	wg.Wait()
	return nil
}

func (l *Loop) next(ctx context.Context) bool {
	key, closed := l.queue.Get()
	if closed {
		return false
	}
	defer l.queue.Done(key)
	if ctx.Err() != nil {
		return true // drain without working
	}
	result, err := l.guarded(ctx, key)
	var end *terminal
	switch {
	case err == nil:
		l.queue.Forget(key)
		if result.RequeueAfter > 0 {
			l.queue.AddAfter(key, result.RequeueAfter)
		}
	case errors.As(err, &end):
		l.queue.Forget(key)
		l.log.Warn("gave up on object", zap.Stringer("key", key), zap.Error(err))
	case apierrors.IsConflict(err):
		l.log.Debug("object changed meanwhile, trying again", zap.Stringer("key", key), zap.Error(err))
		l.queue.AddRateLimited(key)
	default:
		if ctx.Err() == nil {
			l.log.Warn("trying again", zap.Stringer("key", key), zap.Int("failures", l.queue.NumRequeues(key)+1), zap.Error(err))
		}
		l.queue.AddRateLimited(key)
	}
	return true
}

// guarded turns a panic into an error: one bad object must not end the others' loop.
func (l *Loop) guarded(ctx context.Context, key Key) (result Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return l.reconcile(ctx, key)
}
