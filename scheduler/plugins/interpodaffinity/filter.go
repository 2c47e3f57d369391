// Package interpodaffinity keeps pods near to or apart from other pods: within the domains of a topology key, by the
// terms of the pod itself, and by the anti-affinity of pods that are there already.
package interpodaffinity

import (
	"k8s.io/apimachinery/pkg/labels"

	"hardway/scheduler/framework"
)

const name = "InterPodAffinity"

var (
	noneNear  = framework.No(framework.Unresolvable, name, "node(s) didn't match pod affinity rules")
	tooNear   = framework.No(framework.Unschedulable, name, "node(s) didn't match pod anti-affinity rules")
	unwelcome = framework.No(framework.Unschedulable, name, "node(s) didn't satisfy existing pods anti-affinity rules")
)

// Plugin is InterPodAffinity.
type Plugin struct {
	// Hard is the weight that required affinity of pods that are there has when nodes are ranked for another; 1.
	Hard int64
	// IgnorePreferred leaves the preferences of pods that are there out when the pod has none itself.
	IgnorePreferred bool
}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// filterState counts pods by domain.
type filterState struct {
	view      *framework.View
	namespace labels.Set // labels of the pod's
	near      []tally    // by term: pods that all terms of required affinity select
	apart     []tally    // by term of required anti-affinity: pods that it selects
	unwelcome []tally    // by topology key: pods there whose anti-affinity selects this pod
	matches   int32      // pods in near that are in any domain
	self      bool       // all terms of affinity select the pod itself
}

// tally is how many pods there are in each domain.
type tally struct {
	domains *framework.Domains
	counts  []int32
}

// add counts, and returns the count of the domain before and after; a row outside all domains is not counted.
func (t *tally) add(n *framework.Node, sign int32) (domain, before, after int32) {
	d := t.domains.At(n)
	if d < 0 {
		return d, 0, 0
	}
	for int(d) >= len(t.counts) {
		t.counts = append(t.counts, 0)
	}
	before = t.counts[d]
	t.counts[d] += sign
	return d, before, t.counts[d]
}

// at is the count of a node's domain; ok is false when it is in none.
func (t *tally) at(n *framework.Node) (count int32, ok bool) {
	d := t.domains.At(n)
	if d < 0 {
		return 0, false
	}
	if int(d) >= len(t.counts) {
		return 0, true
	}
	return t.counts[d], true
}

// PreFilter implements framework.PreFilter.
func (Plugin) PreFilter(v *framework.View, p *framework.Pod) framework.Prepared {
	s := &filterState{view: v, namespace: v.Namespaces[p.Namespace]}
	if p.Terms.Any() {
		if err := p.Terms.Bad; err != nil {
			return framework.Prepared{No: framework.No(framework.Unresolvable, name, err.Error())}
		}
		for i := range p.Terms.Near {
			s.near = append(s.near, tally{domains: v.DomainsOf(p.Terms.Near[i].Key)})
		}
		for i := range p.Terms.Apart {
			s.apart = append(s.apart, tally{domains: v.DomainsOf(p.Terms.Apart[i].Key)})
		}
		s.self = len(s.near) > 0 && all(p.Terms.Near, p, s.namespace)
	}
	for _, n := range v.Nodes {
		if n.Node == nil {
			continue
		}
		pods := n.Pods
		if len(s.near)+len(s.apart) == 0 {
			if pods = n.Affine; v.Repelling == 0 {
				break
			}
		}
		for _, other := range pods {
			s.follow(p, other, n, 1, nil)
		}
	}
	return framework.Prepared{State: s}
}

func all(terms []framework.Term, p *framework.Pod, namespace labels.Set) bool {
	for i := range terms {
		if !terms[i].Selects(p, namespace) {
			return false
		}
	}
	return true
}

// Follow implements framework.Follow, for the filter and for the ranking.
func (pl Plugin) Follow(state any, p, other *framework.Pod, n *framework.Node, sign int32, marks *framework.Marks) {
	switch s := state.(type) {
	case *filterState:
		if other == nil {
			marks.Anew = marks.Anew || sign != 0 && len(s.near)+len(s.apart)+len(s.unwelcome)+len(n.Affine) > 0
			return
		}
		s.follow(p, other, n, sign, marks)
	case *scoreState:
		if other == nil {
			marks.Anew = marks.Anew || sign != 0 && (len(s.sums)+len(n.Affine) > 0 || s.own)
			return
		}
		s.follow(pl, p, other, n, int64(sign), marks)
	}
}

func (s *filterState) follow(p, other *framework.Pod, n *framework.Node, sign int32, marks *framework.Marks) {
	if other.Terms.Any() {
		for i := range other.Terms.Apart {
			t := &other.Terms.Apart[i]
			if t.Selects(p, s.namespace) {
				mark(s.unwelcomeBy(t.Key), n, sign, marks)
			}
		}
	}
	if len(s.near)+len(s.apart) == 0 {
		return
	}
	namespace := s.view.Namespaces[other.Namespace]
	for i := range p.Terms.Apart {
		if p.Terms.Apart[i].Selects(other, namespace) {
			mark(&s.apart[i], n, sign, marks)
		}
	}
	if len(s.near) > 0 && all(p.Terms.Near, other, namespace) {
		s.nearTo(n, sign, marks)
	}
}

// mark counts a pod and marks the domain if its verdict turns.
func mark(t *tally, n *framework.Node, sign int32, marks *framework.Marks) {
	if d, before, after := t.add(n, sign); d >= 0 && (before > 0) != (after > 0) {
		marks.Domain(t.domains, d)
	}
}

func (s *filterState) nearTo(n *framework.Node, sign int32, marks *framework.Marks) {
	had := s.matches > 0
	for i := range s.near {
		d, before, after := s.near[i].add(n, sign)
		if d < 0 {
			continue
		}
		s.matches += sign
		if (before > 0) != (after > 0) {
			marks.Domain(s.near[i].domains, d)
		}
	}
	if had != (s.matches > 0) { // the first of its kind may go anywhere
		marks.Every()
	}
}

func (s *filterState) unwelcomeBy(key string) *tally {
	for i := range s.unwelcome {
		if s.unwelcome[i].domains.Key == key {
			return &s.unwelcome[i]
		}
	}
	s.unwelcome = append(s.unwelcome, tally{domains: s.view.DomainsOf(key)})
	return &s.unwelcome[len(s.unwelcome)-1]
}

// Filter implements framework.Filter.
func (Plugin) Filter(state any, _ *framework.Pod, n *framework.Node) *framework.Status {
	s := state.(*filterState)
	if !s.isNear(n) {
		return noneNear
	}
	for i := range s.apart {
		if count, _ := s.apart[i].at(n); count > 0 {
			return tooNear
		}
	}
	for i := range s.unwelcome {
		if count, _ := s.unwelcome[i].at(n); count > 0 {
			return unwelcome
		}
	}
	return nil
}

// isNear says whether there are pods that required affinity asks for in all domains of a node. The first pod of a group
// whose pods want to be near each other finds none; it may go wherever the topology keys are.
func (s *filterState) isNear(n *framework.Node) bool {
	found := true
	for i := range s.near {
		count, ok := s.near[i].at(n)
		if !ok {
			return false
		}
		found = found && count > 0
	}
	return found || s.matches == 0 && s.self
}

// Heeds implements framework.Wakes.
func (Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged, framework.PodPlaced, framework.PodChanged, framework.PodGone)
}

// Helps implements framework.Wakes.
func (Plugin) Helps(p *framework.Pod, c framework.Change) bool {
	switch c.What {
	case framework.NodeAdded, framework.NodeChanged:
		return true // it may be in a domain that was missing or is free
	case framework.PodPlaced:
		return wantsNear(p, c.Pod)
	case framework.PodChanged:
		return wantsNear(p, c.Pod) || keepsApart(p, c.OldPod)
	case framework.PodGone:
		return keepsApart(p, c.Pod)
	default:
		return false
	}
}

// wantsNear says whether a pod may be one that p must be near. Terms that go by labels of namespaces count as if they
// took all.
func wantsNear(p, other *framework.Pod) bool {
	if !p.Terms.Any() {
		return false
	}
	for i := range p.Terms.Near {
		if p.Terms.Near[i].MaySelect(other) {
			return true
		}
	}
	return false
}

// keepsApart says whether two pods may be kept apart by the anti-affinity of either.
func keepsApart(p, other *framework.Pod) bool {
	for _, pair := range [2][2]*framework.Pod{{p, other}, {other, p}} {
		if !pair[0].Terms.Any() {
			continue
		}
		for i := range pair[0].Terms.Apart {
			if pair[0].Terms.Apart[i].MaySelect(pair[1]) {
				return true
			}
		}
	}
	return false
}
