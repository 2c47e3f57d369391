package cycle

import (
	"hardway/scheduler/framework"
)

// filter asks all filters about a node as it is given, which may be a changed copy of its row.
func (e *evaluation) filter(pod *framework.Pod, n *framework.Node) *framework.Status {
	for _, f := range e.local {
		if no := f.Filter.Filter(f.state, pod, n); no != nil {
			return no
		}
	}
	for _, f := range e.following {
		if no := f.Filter.Filter(f.state, pod, n); no != nil {
			return no
		}
	}
	return nil
}

// tell lets the filters know of a pod that comes to or leaves a node, in earnest or as a trial.
func (e *evaluation) tell(pod, other *framework.Pod, n *framework.Node, sign int32) {
	for _, f := range e.following {
		f.follow.Follow(f.state, pod, other, n, sign, nil)
	}
}

// fits asks about a node twice when it has been promised to pods that come first: with them there, and without.
func (c *Cycle) fits(e *evaluation, pod *framework.Pod, n *framework.Node) *framework.Status {
	var first []*framework.Pod
	for _, p := range c.cluster.View.Nominated[n.Row] {
		if p.Priority >= pod.Priority && p.UID != pod.UID {
			first = append(first, p)
		}
	}
	if len(first) > 0 {
		with := n.Clone()
		for _, p := range first {
			with.Add(p)
			e.tell(pod, p, with, 1)
		}
		no := e.filter(pod, with)
		for _, p := range first {
			e.tell(pod, p, with, -1)
		}
		if no != nil {
			return no
		}
	}
	return e.filter(pod, n)
}

// situation implements framework.Situation for a pod that no node will do for.
type situation struct {
	cycle *Cycle
	e     *evaluation
	pod   *framework.Pod
}

func (s *situation) View() *framework.View { return s.cycle.cluster.View }

// Verdict implements framework.Situation.
func (s *situation) Verdict(row int) *framework.Status {
	at := s.e.position(row)
	if at < 0 {
		return unnamed
	}
	if no := s.e.verdict(at); no != nil {
		return no
	}
	if s.e.outside[row] != nil { // and nobody outside is asked whether evicting pods would help
		return &framework.Status{Code: framework.Unresolvable, Plugin: s.e.outside[row].Plugin, Reason: s.e.outside[row].Reason}
	}
	return s.cycle.fits(s.e, s.pod, s.View().Nodes[row])
}

// Try implements framework.Situation.
func (s *situation) Try(row int, f func(framework.Trial)) {
	t := &trial{situation: s, node: s.View().Nodes[row].Clone()}
	defer t.undo()
	f(t)
}

// trial implements framework.Trial. What the filters were told is taken back at the end.
type trial struct {
	*situation
	node *framework.Node
	done []step
}

type step struct {
	pod  *framework.Pod
	sign int32
}

func (t *trial) Node() *framework.Node { return t.node }

func (t *trial) Remove(other *framework.Pod) {
	t.node.Remove(other)
	t.tell(other, -1)
}

func (t *trial) Add(other *framework.Pod) {
	t.node.Add(other)
	t.tell(other, 1)
}

func (t *trial) tell(other *framework.Pod, sign int32) {
	t.e.tell(t.pod, other, t.node, sign)
	t.done = append(t.done, step{other, sign})
}

func (t *trial) Fits() *framework.Status { return t.cycle.fits(t.e, t.pod, t.node) }

func (t *trial) undo() {
	for i := len(t.done) - 1; i >= 0; i-- {
		t.e.tell(t.pod, t.done[i].pod, t.node, -t.done[i].sign)
	}
}

// Evict asks the PostFilter plugins for a way out after Decide has refused a pod. It returns nil and a sentence when
// there is none.
func (c *Cycle) Evict(pod *framework.Pod) (*framework.Eviction, string) {
	e := c.evaluate(pod)
	s := &situation{cycle: c, e: e, pod: pod}
	why := ""
	if e.refused != nil {
		return nil, why
	}
	for _, p := range c.profile.PostFilter {
		way, no := p.PostFilter(s, e.state(p.Name()), pod)
		if way != nil {
			return way, ""
		}
		if no != nil {
			why = no.Reason
		}
	}
	return nil, why
}
