// Package nodeunschedulable refuses cordoned nodes, unless the pod tolerates the taint that stands for that.
package nodeunschedulable

import (
	corev1 "k8s.io/api/core/v1"

	"hardway/scheduler/framework"
)

const name = "NodeUnschedulable"

var cordoned = framework.No(framework.Unresolvable, name, "node(s) were unschedulable")

var taint = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

// Plugin is NodeUnschedulable.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// Filter implements framework.Filter.
func (Plugin) Filter(_ any, p *framework.Pod, n *framework.Node) *framework.Status {
	if n.Spec.Unschedulable && !framework.Tolerates(p.Spec.Tolerations, &taint) {
		return cordoned
	}
	return nil
}

// Heeds implements framework.Wakes.
func (Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged)
}

// Helps implements framework.Wakes.
func (Plugin) Helps(_ *framework.Pod, c framework.Change) bool {
	switch c.What {
	case framework.NodeAdded:
		return !c.Node.Spec.Unschedulable
	case framework.NodeChanged:
		return !c.Node.Spec.Unschedulable && c.OldNode.Spec.Unschedulable
	default:
		return false
	}
}
