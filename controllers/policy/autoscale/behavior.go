package autoscale

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// event is a change of the number of replicas, or a number that was recommended.
type event struct {
	at time.Time
	n  int32
}

// past is what an autoscaler remembers of a target; lost when the daemon ends, which makes it patient again.
type past struct {
	recommended []event
	ups, downs  []event // by how much
}

// scaled remembers a change.
func (p *past) scaled(from, to int32, now time.Time) {
	if to > from {
		p.ups = append(recent(p.ups, now.Add(-longest)), event{now, to - from})
	} else {
		p.downs = append(recent(p.downs, now.Add(-longest)), event{now, from - to})
	}
}

// longest is how far back anything is remembered: the longest window and period that the API allows.
const longest = time.Hour

func recent(list []event, since time.Time) []event {
	var out []event
	for _, e := range list {
		if e.at.After(since) {
			out = append(out, e)
		}
	}
	return out
}

// limits say how far and how fast the number may move.
type limits struct {
	least, most int32
	up, down    *autoscalingv2.HPAScalingRules
	patience    time.Duration // the window of scaling down without a behavior
}

// decision is the number that is right, and why it is not the desired one.
type decision struct {
	replicas                    int32
	able, ableMessage           string // reason and message of AbleToScale when the window held it back
	limited                     bool
	limitedReason, limitMessage string
}

// decide brings a desired number within the windows, the speed and the bounds.
func decide(current, desired int32, p *past, l limits, now time.Time) decision {
	d := decision{replicas: desired, limitedReason: "DesiredWithinRange", limitMessage: "the desired count is within the acceptable range"}
	p.recommended = append(recent(p.recommended, now.Add(-longest)), event{now, desired})
	if s := stable(current, desired, p.recommended, l, now); s != desired {
		d.replicas, d.able, d.ableMessage = s, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"
		if s < desired {
			d.able, d.ableMessage = "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"
		}
	}
	limit := func(n int32, reason, message string) {
		d.replicas, d.limited, d.limitedReason, d.limitMessage = n, true, reason, message
	}
	switch n := d.replicas; {
	case n > current:
		top := upTo(current, p.ups, p.downs, l.up, now)
		if n > min(top, l.most) {
			if top < l.most {
				limit(top, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
			} else {
				limit(l.most, "TooManyReplicas", "the desired replica count is more than the maximum replica count")
			}
		}
	case n < current:
		bottom := downTo(current, p.ups, p.downs, l.down, now)
		if n < max(bottom, l.least) {
			if bottom > l.least {
				limit(bottom, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
			} else {
				limit(l.least, "TooFewReplicas", "the desired replica count is less than the minimum replica count")
			}
		}
	}
	switch {
	case d.replicas > l.most:
		limit(l.most, "TooManyReplicas", "the desired replica count is more than the maximum replica count")
	case d.replicas < l.least:
		limit(l.least, "TooFewReplicas", "the desired replica count is less than the minimum replica count")
	}
	return d
}

// stable is the desired number unless a recent one was closer to the current.
func stable(current, desired int32, recommended []event, l limits, now time.Time) int32 {
	up, down := now.Add(-window(l.up, 0)), now.Add(-window(l.down, l.patience))
	lowest, highest := desired, desired
	for _, r := range recommended {
		if r.at.After(up) {
			lowest = min(lowest, r.n)
		}
		if r.at.After(down) {
			highest = max(highest, r.n)
		}
	}
	return max(min(current, highest), lowest)
}

func window(r *autoscalingv2.HPAScalingRules, otherwise time.Duration) time.Duration {
	if r == nil || r.StabilizationWindowSeconds == nil {
		return otherwise
	}
	return time.Duration(*r.StabilizationWindowSeconds) * time.Second
}

// policies that hold when a behavior says nothing: up to twice as many or four more in 15 s, down at once.
var (
	defaultUp   = []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}, {Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}}
	defaultDown = []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}}
)

func rules(r *autoscalingv2.HPAScalingRules, otherwise []autoscalingv2.HPAScalingPolicy) ([]autoscalingv2.HPAScalingPolicy, autoscalingv2.ScalingPolicySelect) {
	choice, policies := autoscalingv2.MaxChangePolicySelect, otherwise
	if r != nil && r.SelectPolicy != nil {
		choice = *r.SelectPolicy
	}
	if r != nil && len(r.Policies) > 0 {
		policies = r.Policies
	}
	return policies, choice
}

// began is the number of replicas at the beginning of a policy's period.
func began(current int32, ups, downs []event, period int32, now time.Time) int32 {
	since := now.Add(-time.Duration(period) * time.Second)
	for _, e := range recent(ups, since) {
		current -= e.n
	}
	for _, e := range recent(downs, since) {
		current += e.n
	}
	return current
}

// upTo is how many replicas there may be at most now.
func upTo(current int32, ups, downs []event, r *autoscalingv2.HPAScalingRules, now time.Time) int32 {
	policies, choice := rules(r, defaultUp)
	if choice == autoscalingv2.DisabledPolicySelect {
		return current
	}
	best := int32(math.MinInt32)
	if choice == autoscalingv2.MinChangePolicySelect {
		best = math.MaxInt32
	}
	for _, p := range policies {
		start := began(current, ups, downs, p.PeriodSeconds, now)
		n := start + p.Value
		if p.Type == autoscalingv2.PercentScalingPolicy {
			n = ceil(float64(start) * (1 + float64(p.Value)/100))
		}
		if choice == autoscalingv2.MinChangePolicySelect {
			best = min(best, n)
		} else {
			best = max(best, n)
		}
	}
	return max(best, current)
}

// downTo is how few replicas there may be now.
func downTo(current int32, ups, downs []event, r *autoscalingv2.HPAScalingRules, now time.Time) int32 {
	policies, choice := rules(r, defaultDown)
	if choice == autoscalingv2.DisabledPolicySelect {
		return current
	}
	best := int32(math.MaxInt32)
	if choice == autoscalingv2.MinChangePolicySelect {
		best = math.MinInt32
	}
	for _, p := range policies {
		start := began(current, ups, downs, p.PeriodSeconds, now)
		n := start - p.Value
		if p.Type == autoscalingv2.PercentScalingPolicy {
			n = int32(float64(start) * (1 - float64(p.Value)/100))
		}
		if choice == autoscalingv2.MinChangePolicySelect {
			best = max(best, n)
		} else {
			best = min(best, n)
		}
	}
	return min(best, current)
}
