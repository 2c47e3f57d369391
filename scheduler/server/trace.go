package server

import (
	"time"

	"go.uber.org/zap"

	"hardway/scheduler/framework"
)

// slow is how long a decision may take without being told of, upstream's limit.
const slow = 100 * time.Millisecond

// trace is what a decision spends its time on, in upstream's steps.
type trace struct {
	began time.Time
	steps []step
}

type step struct {
	what string
	at   time.Time
}

func (t *trace) start(now time.Time) { t.began, t.steps = now, t.steps[:0] }

func (t *trace) step(what string) { t.steps = append(t.steps, step{what, time.Now()}) }

// end writes the steps down if the decision took long.
func (t *trace) end(log *zap.Logger, p *framework.Pod) {
	took := time.Since(t.began)
	if took < slow {
		return
	}
	fields := []zap.Field{zap.String("trace", "Scheduling"), zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.Duration("took", took)}
	for _, s := range t.steps {
		fields = append(fields, zap.Duration(s.what, s.at.Sub(t.began)))
	}
	log.Info("a decision took long", fields...)
}
