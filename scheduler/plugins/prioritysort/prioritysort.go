// Package prioritysort orders the queue: higher priority first, then who has been ready longer.
package prioritysort

import "hardway/scheduler/framework"

// Plugin is PrioritySort.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return "PrioritySort" }

// Less implements framework.Sort.
func (Plugin) Less(a, b *framework.Queued) bool {
	if a.Priority != b.Priority {
		return a.Priority > b.Priority
	}
	return a.Queued.Before(b.Queued)
}
