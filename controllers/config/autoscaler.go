package config

import (
	"time"

	"github.com/spf13/pflag"
)

// Autoscaler is how HorizontalPodAutoscalers work.
type Autoscaler struct {
	Period            time.Duration // between two looks at a target
	Stabilization     time.Duration // how long a higher recommendation keeps a target from shrinking
	Tolerance         float64       // by which part the use may be off
	CPUInitialization time.Duration // how long a new pod's CPU use is looked at with care
	ReadinessDelay    time.Duration // how long a pod that was never ready counts as starting
}

func defaultAutoscaler() Autoscaler {
	return Autoscaler{
		Period: 15 * time.Second, Stabilization: 5 * time.Minute, Tolerance: 0.1, CPUInitialization: 5 * time.Minute, ReadinessDelay: 30 * time.Second,
	}
}

func (a *Autoscaler) flags(fs *pflag.FlagSet) {
	const prefix = "horizontal-pod-autoscaler-"
	fs.DurationVar(&a.Period, prefix+"sync-period", a.Period, "time between two looks at what pods use")
	fs.DurationVar(&a.Stabilization, prefix+"downscale-stabilization", a.Stabilization, "how long a higher recommendation keeps a target from shrinking")
	fs.Float64Var(&a.Tolerance, prefix+"tolerance", a.Tolerance, "by which part the use may be off the target without a change")
	fs.DurationVar(&a.CPUInitialization, prefix+"cpu-initialization-period", a.CPUInitialization, "how long the CPU use of a new pod may be skipped")
	fs.DurationVar(&a.ReadinessDelay, prefix+"initial-readiness-delay", a.ReadinessDelay, "how long a pod that was never ready counts as starting")
}

func (a *Autoscaler) validate(bad func(string, ...any)) {
	if a.Period <= 0 {
		bad("--horizontal-pod-autoscaler-sync-period: %v is not positive", a.Period)
	}
	if a.Tolerance < 0 || a.Stabilization < 0 || a.CPUInitialization < 0 || a.ReadinessDelay < 0 {
		bad("the flags --horizontal-pod-autoscaler-... must not be negative")
	}
}
