// Package dynamicresources keeps pods pending that claim devices (KEP-4381): allocating devices is not supported yet, and
// no such pod is placed as if it had none to claim.
package dynamicresources

import "hardway/scheduler/framework"

const name = "DynamicResources"

var unsupported = framework.No(framework.Unresolvable, name, "this scheduler does not support spec.resourceClaims yet")

// Plugin is DynamicResources.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// PreFilter implements framework.PreFilter.
func (Plugin) PreFilter(_ *framework.View, p *framework.Pod) framework.Prepared {
	if len(p.Spec.ResourceClaims) > 0 {
		return framework.Prepared{No: unsupported}
	}
	return framework.Prepared{Skip: true}
}
