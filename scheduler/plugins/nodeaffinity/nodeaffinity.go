// Package nodeaffinity refuses nodes that do not match a pod's nodeSelector and required node affinity, and prefers
// those that match its preferred terms.
package nodeaffinity

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"hardway/scheduler/framework"
)

const name = "NodeAffinity"

var (
	noMatch  = framework.No(framework.Unresolvable, name, "node(s) didn't match Pod's node affinity/selector")
	enforced = framework.No(framework.Unresolvable, name, "node(s) didn't match scheduler-enforced node affinity")
	conflict = framework.No(framework.Unresolvable, name, "pod affinity terms conflict")
)

// Plugin is NodeAffinity. Make it with New.
type Plugin struct {
	required  *nodeaffinity.NodeSelector // of every pod of the profile; nil: nothing
	preferred *nodeaffinity.PreferredSchedulingTerms
}

// New makes the plugin with an affinity that every pod of the profile has besides its own; nil for none.
func New(added *corev1.NodeAffinity) (*Plugin, error) {
	p := &Plugin{}
	if added == nil {
		return p, nil
	}
	var err error
	if r := added.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		if p.required, err = nodeaffinity.NewNodeSelector(r); err != nil {
			return nil, fmt.Errorf("addedAffinity.requiredDuringSchedulingIgnoredDuringExecution: %w", err)
		}
	}
	if terms := added.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
		if p.preferred, err = nodeaffinity.NewPreferredSchedulingTerms(terms); err != nil {
			return nil, fmt.Errorf("addedAffinity.preferredDuringSchedulingIgnoredDuringExecution: %w", err)
		}
	}
	return p, nil
}

// Name implements framework.Plugin.
func (*Plugin) Name() string { return name }

// PreFilter implements framework.PreFilter. Terms that cannot be read are said so, whatever the node; terms that name
// nodes spare looking at the others.
func (pl *Plugin) PreFilter(_ *framework.View, p *framework.Pod) framework.Prepared {
	if p.BadPreference != nil {
		return framework.Prepared{No: framework.No(framework.Unresolvable, name, p.BadPreference.Error())}
	}
	required := requiredOf(p)
	if required == nil {
		return framework.Prepared{Skip: pl.required == nil && p.Spec.NodeSelector == nil}
	}
	nodes := named(required)
	if nodes != nil && len(nodes) == 0 {
		return framework.Prepared{No: conflict}
	}
	return framework.Prepared{Nodes: nodes}
}

func requiredOf(p *framework.Pod) *corev1.NodeSelector {
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

// named are the only nodes that can match, if every term names some by metadata.name; else nil.
func named(s *corev1.NodeSelector) []string {
	var all []string
	for _, term := range s.NodeSelectorTerms {
		var names []string
		bound := false
		for _, r := range term.MatchFields {
			if r.Key != metav1.ObjectNameField || r.Operator != corev1.NodeSelectorOpIn {
				continue
			}
			if !bound {
				names, bound = slices.Clone(r.Values), true
			} else {
				names = slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(r.Values, n) })
			}
		}
		if !bound {
			return nil
		}
		all = append(all, names...)
	}
	if len(s.NodeSelectorTerms) > 0 && all == nil {
		return []string{}
	}
	return all
}

// Filter implements framework.Filter.
func (pl *Plugin) Filter(_ any, p *framework.Pod, n *framework.Node) *framework.Status {
	if pl.required != nil && !pl.required.Match(n.Node) {
		return enforced
	}
	if ok, _ := p.Affinity.Match(n.Node); !ok { // a term that cannot be read matches nothing
		return noMatch
	}
	return nil
}

// PreScore implements framework.PreScore.
func (pl *Plugin) PreScore(_ *framework.View, p *framework.Pod) (state any, skip bool) {
	return nil, p.Preferred == nil && pl.preferred == nil
}

// Score implements framework.Score: the sum of the weights of the terms that match.
func (pl *Plugin) Score(_ any, p *framework.Pod, n *framework.Node) (sum int64) {
	if pl.preferred != nil {
		sum += pl.preferred.Score(n.Node)
	}
	if p.Preferred != nil {
		sum += p.Preferred.Score(n.Node)
	}
	return sum
}

// Normalize implements framework.Normalize: in proportion to the best.
func (*Plugin) Normalize(_ any, raw, _, greatest int64) int64 {
	if greatest <= 0 {
		return raw
	}
	return framework.MaxScore * raw / greatest
}

// Heeds implements framework.Wakes.
func (*Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged)
}

// Helps implements framework.Wakes.
func (pl *Plugin) Helps(p *framework.Pod, c framework.Change) bool {
	switch c.What {
	case framework.NodeAdded:
		return pl.Filter(nil, p, c.Node) == nil
	case framework.NodeChanged:
		was := &framework.Node{Node: c.OldNode}
		return pl.Filter(nil, p, c.Node) == nil && pl.Filter(nil, p, was) != nil
	default:
		return false
	}
}
