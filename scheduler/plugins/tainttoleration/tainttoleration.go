// Package tainttoleration refuses nodes with NoSchedule and NoExecute taints that a pod does not tolerate, and prefers
// those with fewer PreferNoSchedule taints that it does not tolerate.
package tainttoleration

import (
	corev1 "k8s.io/api/core/v1"

	"hardway/scheduler/framework"
)

const name = "TaintToleration"

var untolerated = framework.No(framework.Unresolvable, name, "node(s) had untolerated taint(s)")

// Plugin is TaintToleration.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// Filter implements framework.Filter.
func (Plugin) Filter(_ any, p *framework.Pod, n *framework.Node) *framework.Status {
	return admits(n.Spec.Taints, p.Spec.Tolerations)
}

func admits(taints []corev1.Taint, tolerations []corev1.Toleration) *framework.Status {
	for i := range taints {
		t := &taints[i]
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !framework.Tolerates(tolerations, t) {
			return untolerated
		}
	}
	return nil
}

// Score implements framework.Score: it counts the taints to be avoided.
func (Plugin) Score(_ any, p *framework.Pod, n *framework.Node) (avoid int64) {
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule && !framework.Tolerates(p.Spec.Tolerations, t) {
			avoid++
		}
	}
	return avoid
}

// Normalize implements framework.Normalize: the fewer the better.
func (Plugin) Normalize(_ any, raw, _, greatest int64) int64 {
	if greatest == 0 {
		return framework.MaxScore
	}
	return framework.MaxScore - framework.MaxScore*raw/greatest
}

// Heeds implements framework.Wakes.
func (Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged)
}

// Helps implements framework.Wakes.
func (Plugin) Helps(p *framework.Pod, c framework.Change) bool {
	switch c.What {
	case framework.NodeAdded:
		return admits(c.Node.Spec.Taints, p.Spec.Tolerations) == nil
	case framework.NodeChanged:
		return admits(c.Node.Spec.Taints, p.Spec.Tolerations) == nil && admits(c.OldNode.Spec.Taints, p.Spec.Tolerations) != nil
	default:
		return false
	}
}
