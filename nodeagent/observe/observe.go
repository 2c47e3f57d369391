// Package observe tells the workers when something has happened to their containers.
//
// The runtime is the parent of all containers and says at once when one ends, so there is no relist to find out. A
// relist every few minutes makes up for an event that got lost, and finds what no worker knows of: pods that were
// deleted while the agent was down. Dashboards watch upstream's relist metrics; they are kept with the meaning "time
// from a container's end until its worker has been told".
package observe

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/runtime"
)

// relistEvery is how often all pods are looked at although nothing was reported.
const relistEvery = 3 * time.Minute

// Runtime is what is observed.
type Runtime interface {
	Pods(ctx context.Context) ([]runtime.PodStatus, error)
	Events() <-chan runtime.Event
}

// Workers are told what has happened.
type Workers interface {
	Wake(uid types.UID)
	WakeAll()
	Known(uid types.UID) bool
	Adopt(found runtime.PodStatus)
	Sweep(ctx context.Context) error
}

// Observer passes events on.
type Observer struct {
	runtime Runtime
	workers Workers
	log     *zap.Logger
	relist  prometheus.Histogram
	between prometheus.Histogram
}

// New returns an observer with its metrics registered.
func New(r Runtime, w Workers, log *zap.Logger, reg prometheus.Registerer) *Observer {
	o := &Observer{
		runtime: r, workers: w, log: log,
		relist: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubelet_pleg_relist_duration_seconds", Help: "Time from a container's end until its worker was told.",
			Buckets: prometheus.DefBuckets,
		}),
		between: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubelet_pleg_relist_interval_seconds", Help: "Time between two passes over the runtime's events.",
			Buckets: prometheus.DefBuckets,
		}),
	}
	reg.MustRegister(o.relist, o.between)
	return o
}

// Run passes events on until ctx ends. It begins with a look at everything, so the workers must know their pods.
func (o *Observer) Run(ctx context.Context) error {
	if err := o.all(ctx); err != nil {
		o.log.Warn("relist", zap.Error(err))
	}
	tick := time.NewTicker(relistEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-o.runtime.Events():
			if !ok {
				return fmt.Errorf("runtime events ended")
			}
			o.workers.Wake(e.UID)
			if c := e.Container; c.State == runtime.Exited && !c.FinishedAt.IsZero() {
				o.relist.Observe(max(time.Since(c.FinishedAt), 0).Seconds())
			}
			o.between.Observe(time.Since(last).Seconds())
			last = time.Now()
		case <-tick.C:
			if err := o.all(ctx); err != nil && ctx.Err() == nil {
				o.log.Warn("relist", zap.Error(err))
			}
		}
	}
}

// all has unknown pods taken over, the remains of others removed, and lets every worker look again.
func (o *Observer) all(ctx context.Context) error {
	pods, err := o.runtime.Pods(ctx)
	if err != nil {
		return err
	}
	for _, p := range pods {
		if !o.workers.Known(p.Config.UID) {
			o.log.Info("pod is not in the API any more", zap.String("namespace", p.Config.Namespace),
				zap.String("name", p.Config.Name), zap.String("uid", string(p.Config.UID)))
			o.workers.Adopt(p)
		}
	}
	o.workers.WakeAll()
	return o.workers.Sweep(ctx)
}
