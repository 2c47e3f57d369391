// Package nodeports refuses nodes on which a host port that a pod wants is taken.
package nodeports

import (
	"slices"

	"hardway/scheduler/framework"
)

const name = "NodePorts"

var taken = framework.No(framework.Unschedulable, name, "node(s) didn't have free ports for the requested pod ports")

// Plugin is NodePorts.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// PreFilter implements framework.PreFilter.
func (Plugin) PreFilter(_ *framework.View, p *framework.Pod) framework.Prepared {
	return framework.Prepared{Skip: len(p.Ports) == 0}
}

// Filter implements framework.Filter.
func (Plugin) Filter(_ any, p *framework.Pod, n *framework.Node) *framework.Status {
	if clash(p.Ports, n.Ports) {
		return taken
	}
	return nil
}

// Heeds implements framework.Wakes.
func (Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.PodGone)
}

// Helps implements framework.Wakes.
func (Plugin) Helps(p *framework.Pod, c framework.Change) bool {
	return c.What == framework.NodeAdded || c.What == framework.PodGone && clash(p.Ports, c.Pod.Ports)
}

func clash(wanted, used []framework.HostPort) bool {
	for _, w := range wanted {
		if slices.ContainsFunc(used, w.Clashes) {
			return true
		}
	}
	return false
}
