// Package nodename refuses every node but the one that a pod names in spec.nodeName.
package nodename

import "hardway/scheduler/framework"

const name = "NodeName"

var other = framework.No(framework.Unresolvable, name, "node(s) didn't match the requested node name")

// Plugin is NodeName.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// PreFilter implements framework.PreFilter.
func (Plugin) PreFilter(_ *framework.View, p *framework.Pod) framework.Prepared {
	return framework.Prepared{Skip: p.Spec.NodeName == ""}
}

// Filter implements framework.Filter.
func (Plugin) Filter(_ any, p *framework.Pod, n *framework.Node) *framework.Status {
	if p.Spec.NodeName != "" && p.Spec.NodeName != n.Name {
		return other
	}
	return nil
}

// Heeds implements framework.Wakes.
func (Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded)
}

// Helps implements framework.Wakes.
func (Plugin) Helps(p *framework.Pod, c framework.Change) bool {
	return c.What == framework.NodeAdded && c.Node.Name == p.Spec.NodeName
}
