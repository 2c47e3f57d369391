// Package control says what a controller of this daemon is: a declaration in the table (what it is called, what it
// reads and writes, how it is made) and a value that runs while the daemon leads.
//
// Controllers are made once, at start, whether the daemon leads or not: their watches fill the shared caches and their
// handlers are called all the time, so that a standby takes over with warm caches. Their queues exist only while the
// daemon leads, see Queue.
package control

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/controllers/config"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller is one row of the table.
type Controller struct {
	Name    string // upstream's name: in --controllers, logs, metrics
	Alias   string // upstream's former name, accepted in --controllers
	Account string // service account in kube-system that it can act as; "": the daemon itself
	// Reads and Writes are what it needs of the API, as group/resource or group/resource/subresource; the core group is
	// left out, "*" is everything. The role of the daemon and the diagram in the documentation follow from them.
	Reads, Writes []string
	// Needs says why the controller cannot run with this configuration, "" when it can. Optional.
	Needs func(config.Config) string
	New   func(Env) (Runner, error)
}

// Runner is a controller at work: Run blocks until ctx ends. It is called once for every term of leadership.
type Runner interface {
	Run(ctx context.Context) error
}

// Env is what a controller gets.
type Env struct {
	Config    config.Config
	API       *client.API
	Informers *client.Informers
	Events    *client.Recorder
	Log       *zap.Logger
	Metrics   *prometheus.Registry
	activity  *Activity // where the queues are noted; may be nil
}

// Queue is the work queue of a controller. Keys that are added while the daemon does not lead are dropped: at the start
// of a term the controller goes through everything there is anyway. A Queue is safe for concurrent use.
type Queue struct {
	name      string
	workers   int
	reconcile reconcile.Reconciler
	log       *zap.Logger
	reg       *prometheus.Registry
	loop      atomic.Pointer[reconcile.Loop]
	last      atomic.Pointer[Failure]
	running   sync.Map // reconcile.Key of what is worked on -> time.Time since when
}

// Queue makes a queue whose keys are worked on by the given number of workers. A conflict (the cache was older than the
// object) is no failure: the news that is on its way brings the key back.
func (e Env) Queue(name string, workers int, r reconcile.Reconciler) *Queue {
	q := &Queue{name: name, workers: max(workers, 1), log: e.Log, reg: e.Metrics}
	q.reconcile = func(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
		q.running.Store(key, time.Now())
		defer q.running.Delete(key)
		result, err := r(ctx, key)
		if apierrors.IsConflict(err) {
			e.Log.Debug("written to meanwhile, waiting for the news", zap.String("controller", name), zap.Stringer("key", key), zap.Error(err))
			return reconcile.Result{RequeueAfter: stale}, nil
		}
		if err != nil && ctx.Err() == nil {
			q.last.Store(&Failure{Key: key.String(), Error: err.Error(), Time: time.Now()})
		}
		return result, err
	}
	if e.activity != nil {
		e.activity.queues = append(e.activity.queues, q)
	}
	return q
}

// stale is how long after a conflict a key is looked at again if no news came.
const stale = 500 * time.Millisecond

// Add asks for a key to be looked at.
func (q *Queue) Add(key reconcile.Key) {
	if l := q.loop.Load(); l != nil {
		l.Add(key)
	}
}

// AddAfter asks for a key to be looked at later.
func (q *Queue) AddAfter(key reconcile.Key, d time.Duration) {
	if l := q.loop.Load(); l != nil {
		l.AddAfter(key, d)
	}
}

// Len is the number of keys that wait.
func (q *Queue) Len() int {
	if l := q.loop.Load(); l != nil {
		return l.Len()
	}
	return 0
}

// Run works until ctx ends. seed adds what there is already; it is called once the queue takes keys, so that nothing
// falls in between.
func (q *Queue) Run(ctx context.Context, seed func()) error {
	l := reconcile.New(q.name, q.workers, q.reconcile, q.log, q.reg)
	if !q.loop.CompareAndSwap(nil, l) {
		return errors.New(q.name + " runs already")
	}
	defer q.loop.Store(nil)
	if seed != nil {
		seed()
	}
	return l.Run(ctx)
}
