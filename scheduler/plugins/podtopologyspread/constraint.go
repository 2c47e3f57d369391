// Package podtopologyspread spreads pods evenly over the domains of topology keys: as a rule, by constraints with
// DoNotSchedule, and as a preference, by those with ScheduleAnyway or, for pods without constraints, by what the
// profile says for all.
package podtopologyspread

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/scheduler/framework"
)

const name = "PodTopologySpread"

// Plugin is PodTopologySpread. Make it with New.
type Plugin struct {
	defaults []corev1.TopologySpreadConstraint
	system   bool // the defaults are those of the system: nodes without the labels are not left out
}

// New makes the plugin with constraints for pods that have none; nil stands for those of the system.
func New(defaults []corev1.TopologySpreadConstraint) *Plugin {
	if defaults != nil {
		return &Plugin{defaults: defaults}
	}
	return &Plugin{system: true, defaults: []corev1.TopologySpreadConstraint{
		{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 3},
		{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 5},
	}}
}

// Name implements framework.Plugin.
func (*Plugin) Name() string { return name }

// constraint is one constraint, read.
type constraint struct {
	domains       *framework.Domains
	selector      labels.Selector
	skew          int32
	minDomains    int32
	anyAffinity   bool // nodes that the pod's node affinity excludes count, too
	heedsTaints   bool // nodes with taints that the pod does not tolerate do not count
	selectsItself bool
}

// read returns the constraints of a pod with an action.
func (pl *Plugin) read(v *framework.View, p *framework.Pod, action corev1.UnsatisfiableConstraintAction) ([]constraint, error) {
	list, owners := p.Spec.TopologySpreadConstraints, labels.Selector(nil)
	if len(list) == 0 {
		if v.Owners != nil {
			owners = v.Owners(p)
		}
		if owners == nil || owners.Empty() {
			return nil, nil
		}
		list = pl.defaults
	}
	var out []constraint
	for i := range list {
		from := &list[i]
		if from.WhenUnsatisfiable != action {
			continue
		}
		c := constraint{domains: v.DomainsOf(from.TopologyKey), selector: owners, skew: from.MaxSkew, minDomains: 1}
		if owners == nil {
			var err error
			if c.selector, err = selectorOf(from, p.Labels); err != nil {
				return nil, err
			}
		}
		if from.MinDomains != nil {
			c.minDomains = *from.MinDomains
		}
		c.anyAffinity = from.NodeAffinityPolicy != nil && *from.NodeAffinityPolicy != corev1.NodeInclusionPolicyHonor
		c.heedsTaints = from.NodeTaintsPolicy != nil && *from.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
		c.selectsItself = c.selector.Matches(labels.Set(p.Labels))
		out = append(out, c)
	}
	return out, nil
}

// selectorOf is the selector of a constraint, narrowed by the pod's own values of matchLabelKeys.
func selectorOf(c *corev1.TopologySpreadConstraint, own map[string]string) (labels.Selector, error) {
	s, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("label selector of a topology spread constraint: %w", err)
	}
	set := labels.Set{}
	for _, key := range c.MatchLabelKeys {
		if value, ok := own[key]; ok {
			set[key] = value
		}
	}
	requirements, selectable := s.Requirements()
	if len(set) == 0 || !selectable {
		return s, nil
	}
	return labels.SelectorFromSet(set).Add(requirements...), nil
}

// counts says whether pods on a node count for a constraint.
func (c *constraint) countsNode(p *framework.Pod, n *framework.Node) bool {
	if !c.anyAffinity {
		if ok, _ := p.Affinity.Match(n.Node); !ok {
			return false
		}
	}
	if c.heedsTaints {
		for i := range n.Spec.Taints {
			t := &n.Spec.Taints[i]
			if t.Effect != corev1.TaintEffectPreferNoSchedule && !framework.Tolerates(p.Spec.Tolerations, t) {
				return false
			}
		}
	}
	return true
}

// selects says whether another pod is one of those that are to be spread.
func (c *constraint) selects(p, other *framework.Pod) bool {
	return !other.Leaving && other.Namespace == p.Namespace && !c.selector.Empty() && c.selector.Matches(labels.Set(other.Labels))
}

// inAll says whether a node has the topology keys of all constraints.
func inAll(n *framework.Node, domain func(i int) *framework.Domains, constraints int) bool {
	for i := range constraints {
		if domain(i).At(n) < 0 {
			return false
		}
	}
	return true
}
