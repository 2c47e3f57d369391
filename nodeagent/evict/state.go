package evict

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// State is what is remembered from one look to the next. The zero value remembers nothing.
type State struct {
	since map[Threshold]time.Time                // when a threshold was met first
	last  map[corev1.NodeConditionType]time.Time // when a condition held last
}

// Verdict is what a look has found.
type Verdict struct {
	Pressure map[corev1.NodeConditionType]bool
	Act      *Threshold // what to free now; nil: nothing
}

// Next looks at the levels. transition is how long a condition stays after its cause has gone.
func (s *State) Next(levels map[Signal]Level, thresholds []Threshold, transition time.Duration, now time.Time) Verdict {
	since := map[Threshold]time.Time{}
	for _, t := range thresholds {
		l, known := levels[t.Signal]
		first, reached := s.since[t]
		if !known || !t.met(l, reached) {
			continue
		}
		if !reached {
			first = now
		}
		since[t] = first
	}
	s.since = since
	if s.last == nil {
		s.last = map[corev1.NodeConditionType]time.Time{}
	}
	v := Verdict{Pressure: map[corev1.NodeConditionType]bool{}}
	for _, o := range order {
		for _, t := range thresholds {
			first, met := since[t]
			if t.Signal != o.Signal || !met || now.Sub(first) < t.Grace {
				continue
			}
			s.last[o.condition] = now
			if v.Act == nil || v.Act.Signal == t.Signal && v.Act.Soft && !t.Soft {
				v.Act = &t
			}
		}
	}
	for condition, at := range s.last {
		if now.Sub(at) < transition || at.Equal(now) {
			v.Pressure[condition] = true
		}
	}
	return v
}
