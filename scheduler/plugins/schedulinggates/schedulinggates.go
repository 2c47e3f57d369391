// Package schedulinggates keeps pods with spec.schedulingGates out of the queue (KEP-3521).
package schedulinggates

import (
	"fmt"
	"strings"

	"hardway/scheduler/framework"
)

// Plugin is SchedulingGates.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return "SchedulingGates" }

// PreEnqueue implements framework.PreEnqueue.
func (p Plugin) PreEnqueue(pod *framework.Pod) *framework.Status {
	if len(pod.Spec.SchedulingGates) == 0 {
		return nil
	}
	gates := make([]string, len(pod.Spec.SchedulingGates))
	for i, g := range pod.Spec.SchedulingGates {
		gates[i] = g.Name
	}
	return &framework.Status{
		Code: framework.Unresolvable, Plugin: p.Name(),
		Reason: fmt.Sprintf("waiting for scheduling gates: [%s]", strings.Join(gates, " ")),
	}
}
