package evict

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// every is how often the node is looked at.
const every = 10 * time.Second

// hardGrace is what a pod gets that must go at once.
const hardGrace = time.Second

// Deps are what an Evictor sees and does.
type Deps struct {
	Levels     func() (map[Signal]Level, error)
	Candidates func(ctx context.Context, disk bool) []Candidate // disk: with what they have written
	Storage    func(ctx context.Context, p *corev1.Pod) Storage
	// FreeImages removes images that nothing uses; it says whether that has freed anything.
	FreeImages func(ctx context.Context) (bool, error)
	Evict      func(p *corev1.Pod, message string, grace time.Duration)
	Changed    func() // the conditions have
	Note       func(reason, message string)
	Log        *zap.Logger
	Registry   prometheus.Registerer

	Thresholds []Threshold
	Transition time.Duration
	MaxGrace   time.Duration // of pods that go for a soft threshold
}

// Evictor watches over the node.
type Evictor struct {
	Deps
	count *prometheus.CounterVec
	state State

	mu       sync.Mutex // guards pressure
	pressure map[corev1.NodeConditionType]bool
}

// New returns an evictor with its metric registered.
func New(d Deps) *Evictor {
	e := &Evictor{Deps: d, count: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubelet_evictions", Help: "Cumulative number of pod evictions by eviction signal",
	}, []string{"eviction_signal"})}
	for _, o := range order {
		e.count.WithLabelValues(string(o.Signal))
	}
	d.Registry.MustRegister(e.count)
	return e
}

// Pressure is what the node is short of.
func (e *Evictor) Pressure() map[corev1.NodeConditionType]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.pressure)
}

// Run looks at the node until ctx ends.
func (e *Evictor) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := e.look(ctx); err != nil && ctx.Err() == nil {
			e.Log.Warn("node not measured", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (e *Evictor) look(ctx context.Context) error {
	levels, err := e.Levels()
	if err != nil {
		return err
	}
	v := e.state.Next(levels, e.Thresholds, e.Transition, time.Now())
	e.mu.Lock()
	changed := !maps.Equal(e.pressure, v.Pressure)
	e.pressure = v.Pressure
	e.mu.Unlock()
	if changed {
		e.Changed()
	}
	e.checkLimits(ctx)
	if v.Act != nil {
		e.relieve(ctx, *v.Act, levels[v.Act.Signal])
	}
	return nil
}

// relieve frees some of what is short: images first where that helps, else the one pod that ranks first.
func (e *Evictor) relieve(ctx context.Context, t Threshold, l Level) {
	e.Log.Warn("node is short of a resource", zap.String("signal", string(t.Signal)), zap.Int64("available", l.Available))
	disk := t.Signal != Memory && t.Signal != PIDs
	if disk {
		freed, err := e.FreeImages(ctx)
		if err != nil {
			e.Log.Warn("images not collected", zap.Error(err))
		}
		if freed {
			return // the next look shows whether it was enough
		}
	}
	ranked := Rank(t.Signal, e.Candidates(ctx, disk))
	if len(ranked) == 0 {
		e.Note("EvictionThresholdMet", "Attempting to reclaim "+string(t.Signal)+": no pod of this node may be evicted")
		return
	}
	grace := hardGrace
	if t.Soft {
		grace = e.MaxGrace
	}
	e.Note("EvictionThresholdMet", "Attempting to reclaim "+string(t.Signal))
	e.count.WithLabelValues(string(t.Signal)).Inc()
	e.Evict(ranked[0].Pod, Message(t, l, ranked[0]), grace)
}

// checkLimits ends pods that have written more than their limits allow.
func (e *Evictor) checkLimits(ctx context.Context) {
	for _, c := range e.Candidates(ctx, false) {
		if !Limited(c.Pod) {
			continue
		}
		if why := OverLimit(c.Pod, e.Storage(ctx, c.Pod)); why != "" {
			e.Evict(c.Pod, why, hardGrace)
		}
	}
}
