// Package nodeaffinity refuses nodes that do not match a pod's nodeSelector and required node affinity, and prefers
// those that match its preferred terms.
package nodeaffinity

import (
	"hardway/scheduler/framework"
)

const name = "NodeAffinity"

var noMatch = &framework.Status{Code: framework.Unresolvable, Plugin: name, Reason: "node(s) didn't match Pod's node affinity/selector"}

// Plugin is NodeAffinity.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// PreFilter implements framework.PreFilter: terms that cannot be read are said so, whatever the node.
func (Plugin) PreFilter(_ *framework.State, p *framework.Pod) *framework.Status {
	if p.BadPreference != nil {
		return &framework.Status{Code: framework.Unresolvable, Plugin: name, Reason: p.BadPreference.Error()}
	}
	return nil
}

// Filter implements framework.Filter.
func (Plugin) Filter(_ *framework.State, p *framework.Pod, n *framework.Node) *framework.Status {
	ok, err := p.Affinity.Match(n.Node)
	switch {
	case err != nil:
		return &framework.Status{Code: framework.Unresolvable, Plugin: name, Reason: err.Error()}
	case !ok:
		return noMatch
	}
	return nil
}

// PreScore implements framework.PreScore.
func (Plugin) PreScore(_ *framework.State, p *framework.Pod) (skip bool) { return p.Preferred == nil }

// Score implements framework.Score: the sum of the weights of the terms that match.
func (Plugin) Score(_ *framework.State, p *framework.Pod, n *framework.Node) int64 {
	return p.Preferred.Score(n.Node)
}

// Normalize implements framework.Normalize: in proportion to the best.
func (Plugin) Normalize(raw, greatest int64) int64 {
	if greatest == 0 {
		return 0
	}
	return framework.MaxScore * raw / greatest
}

// Helps implements framework.Wakes.
func (p Plugin) Helps(pod *framework.Pod, c framework.Change) bool {
	return c.What != framework.PodGone && p.Filter(nil, pod, c.Node) == nil
}
