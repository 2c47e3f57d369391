package podtopologyspread

import (
	"math"

	corev1 "k8s.io/api/core/v1"

	"hardway/scheduler/framework"
)

var (
	uneven  = framework.No(framework.Unschedulable, name, "node(s) didn't match pod topology spread constraints")
	outside = framework.No(framework.Unresolvable, name, "node(s) didn't match pod topology spread constraints (missing required label)")
)

// filterState is the hard constraints of a pod, each with its counts.
type filterState struct{ rules []rule }

// rule is a hard constraint with the number of selected pods in each domain.
type rule struct {
	constraint
	counted []bool  // by row: pods there count
	pods    []int32 // by domain
	nodes   []int32 // by domain: nodes that count; a domain without one does not exist
	size    int32   // domains that exist
	least   int32   // the smallest number of pods in one
	atLeast int32   // how many have so few
}

// PreFilter implements framework.PreFilter.
func (pl *Plugin) PreFilter(v *framework.View, p *framework.Pod) framework.Prepared {
	constraints, err := pl.read(v, p, corev1.DoNotSchedule)
	if err != nil {
		return framework.Prepared{No: framework.No(framework.Failed, name, err.Error())}
	}
	if len(constraints) == 0 {
		return framework.Prepared{Skip: true}
	}
	s := &filterState{rules: make([]rule, len(constraints))}
	for i := range constraints {
		s.rules[i].constraint = constraints[i]
		s.rules[i].counted = make([]bool, len(v.Nodes))
	}
	for _, n := range v.Nodes {
		if n.Node == nil || !s.inAll(n) {
			continue
		}
		for i := range s.rules {
			s.rules[i].take(p, n)
		}
	}
	for i := range s.rules {
		s.rules[i].findLeast()
	}
	return framework.Prepared{State: s}
}

func (s *filterState) inAll(n *framework.Node) bool {
	return inAll(n, func(i int) *framework.Domains { return s.rules[i].domains }, len(s.rules))
}

// take counts a node and the pods on it.
func (r *rule) take(p *framework.Pod, n *framework.Node) {
	if !r.countsNode(p, n) {
		return
	}
	r.counted[n.Row] = true
	d := r.domain(n)
	if r.nodes[d]++; r.nodes[d] == 1 {
		r.size++
	}
	for _, other := range n.Pods {
		if r.selects(p, other) {
			r.pods[d]++
		}
	}
}

// domain makes room for a node's domain in the counts.
func (r *rule) domain(n *framework.Node) int32 {
	d := r.domains.At(n)
	for int(d) >= len(r.pods) {
		r.pods, r.nodes = append(r.pods, 0), append(r.nodes, 0)
	}
	return d
}

func (r *rule) findLeast() {
	r.least, r.atLeast = math.MaxInt32, 0
	for d, nodes := range r.nodes {
		switch {
		case nodes == 0:
		case r.pods[d] < r.least:
			r.least, r.atLeast = r.pods[d], 1
		case r.pods[d] == r.least:
			r.atLeast++
		}
	}
}

// Follow implements framework.Follow, for the filter and for the ranking.
func (pl *Plugin) Follow(state any, p, other *framework.Pod, n *framework.Node, sign int32, marks *framework.Marks) {
	if other == nil {
		marks.Anew = marks.Anew || sign != 0 // other domains, or others that count
		return
	}
	switch s := state.(type) {
	case *filterState:
		for i := range s.rules {
			s.rules[i].follow(p, other, n, sign, marks)
		}
	case *scoreState:
		s.follow(p, other, n, sign, marks)
	}
}

// follow counts one pod. The domain's verdict may turn; when the least number changes, that of all may.
func (r *rule) follow(p, other *framework.Pod, n *framework.Node, sign int32, marks *framework.Marks) {
	if n.Row >= len(r.counted) || !r.counted[n.Row] || !r.selects(p, other) {
		return
	}
	d := r.domains.At(n)
	before := r.pods[d]
	r.pods[d] += sign
	was := r.least
	switch {
	case before == r.least && sign > 0:
		if r.atLeast--; r.atLeast == 0 {
			r.findLeast()
		}
	case r.pods[d] < r.least:
		r.least, r.atLeast = r.pods[d], 1
	case r.pods[d] == r.least:
		r.atLeast++
	}
	if r.least != was {
		marks.Every()
		return
	}
	marks.Domain(r.domains, d)
}

// Filter implements framework.Filter.
func (*Plugin) Filter(state any, _ *framework.Pod, n *framework.Node) *framework.Status {
	s := state.(*filterState)
	for i := range s.rules {
		r := &s.rules[i]
		d := r.domains.At(n)
		if d < 0 {
			return outside
		}
		least, pods := r.least, int32(0)
		if r.size < r.minDomains {
			least = 0
		}
		if int(d) < len(r.pods) {
			pods = r.pods[d]
		}
		if r.selectsItself {
			pods++
		}
		if int64(pods)-int64(least) > int64(r.skew) {
			return uneven
		}
	}
	return nil
}

// Heeds implements framework.Wakes.
func (*Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged, framework.PodPlaced, framework.PodChanged, framework.PodGone)
}

// Helps implements framework.Wakes.
func (pl *Plugin) Helps(p *framework.Pod, c framework.Change) bool {
	switch c.What {
	case framework.NodeAdded, framework.NodeChanged:
		return true
	case framework.PodPlaced, framework.PodGone:
		return pl.concerns(p, c.Pod)
	case framework.PodChanged:
		return pl.concerns(p, c.Pod) || pl.concerns(p, c.OldPod)
	default:
		return false
	}
}

// concerns says whether a pod is one of those that a hard constraint of p spreads.
func (pl *Plugin) concerns(p, other *framework.Pod) bool {
	if other.Namespace != p.Namespace {
		return false
	}
	list := p.Spec.TopologySpreadConstraints
	if len(list) == 0 {
		return true // those of the profile; which pods they are about is not known here
	}
	for i := range list {
		if list[i].WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		if s, err := selectorOf(&list[i], p.Labels); err == nil && s.Matches(labelsOf(other)) {
			return true
		}
	}
	return false
}
