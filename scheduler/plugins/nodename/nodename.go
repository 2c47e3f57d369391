// Package nodename refuses every node but the one that a pod names in spec.nodeName.
package nodename

import "hardway/scheduler/framework"

const name = "NodeName"

var other = &framework.Status{Code: framework.Unresolvable, Plugin: name, Reason: "node(s) didn't match the requested node name"}

// Plugin is NodeName.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// Filter implements framework.Filter.
func (Plugin) Filter(_ *framework.State, p *framework.Pod, n *framework.Node) *framework.Status {
	if p.Spec.NodeName != "" && p.Spec.NodeName != n.Name {
		return other
	}
	return nil
}

// Helps implements framework.Wakes.
func (Plugin) Helps(p *framework.Pod, c framework.Change) bool {
	return c.What == framework.NodeAdded && c.Node.Name == p.Spec.NodeName
}
