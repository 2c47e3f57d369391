// Package tainttoleration refuses nodes with NoSchedule and NoExecute taints that a pod does not tolerate, and prefers
// those with fewer PreferNoSchedule taints that it does not tolerate.
package tainttoleration

import (
	corev1 "k8s.io/api/core/v1"

	"hardway/scheduler/framework"
)

const name = "TaintToleration"

var untolerated = &framework.Status{Code: framework.Unresolvable, Plugin: name, Reason: "node(s) had untolerated taint(s)"}

// Plugin is TaintToleration.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// Filter implements framework.Filter.
func (Plugin) Filter(_ *framework.State, p *framework.Pod, n *framework.Node) *framework.Status {
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !framework.Tolerates(p.Spec.Tolerations, t) {
			return untolerated
		}
	}
	return nil
}

// Score implements framework.Score: it counts the taints to be avoided.
func (Plugin) Score(_ *framework.State, p *framework.Pod, n *framework.Node) (avoid int64) {
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule && !framework.Tolerates(p.Spec.Tolerations, t) {
			avoid++
		}
	}
	return avoid
}

// Normalize implements framework.Normalize: the fewer the better.
func (Plugin) Normalize(raw, greatest int64) int64 {
	if greatest == 0 {
		return framework.MaxScore
	}
	return framework.MaxScore - framework.MaxScore*raw/greatest
}

// Helps implements framework.Wakes.
func (p Plugin) Helps(pod *framework.Pod, c framework.Change) bool {
	return c.What != framework.PodGone && p.Filter(nil, pod, c.Node) == nil
}
