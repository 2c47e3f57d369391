package cycle

import (
	"cmp"
	"slices"

	"hardway/scheduler/framework"
)

// Totals are the totals of the nodes that will do for a pod, by name.
func (c *Cycle) Totals(pod *framework.Pod) map[string]int64 {
	e := c.evaluate(pod)
	out := map[string]int64{}
	for i, ok := range e.ok {
		if ok {
			out[c.cluster.View.Nodes[e.row(i)].Name] = e.total(i)
		}
	}
	return out
}

// Miss is a node that will not do, with everything that speaks against it.
type Miss struct {
	Node    string
	Reasons []string
}

// Misses are the nodes that come nearest to doing for a pod, those with the least against them first.
func (c *Cycle) Misses(pod *framework.Pod, most int) (out []Miss) {
	e := c.evaluate(pod)
	if e.refused != nil {
		return nil
	}
	for i, no := range e.localNo {
		n := c.cluster.View.Nodes[e.row(i)]
		if e.ok[i] || no == unknown || n.Node == nil {
			continue
		}
		out = append(out, Miss{Node: n.Name, Reasons: e.against(pod, n)})
	}
	slices.SortFunc(out, func(a, b Miss) int {
		return cmp.Or(cmp.Compare(len(a.Reasons), len(b.Reasons)), cmp.Compare(a.Node, b.Node))
	})
	return out[:min(len(out), most)]
}

// Details is for filters that can say more about a no than its reason.
type Details interface {
	Details(p *framework.Pod, n *framework.Node) []string
}

// against asks all filters, where a decision stops at the first no.
func (e *evaluation) against(pod *framework.Pod, n *framework.Node) (reasons []string) {
	ask := func(b bound) {
		no := b.Filter.Filter(b.state, pod, n)
		if no == nil {
			return
		}
		if d, ok := b.Filter.(Details); ok {
			reasons = append(reasons, d.Details(pod, n)...)
			return
		}
		reasons = append(reasons, no.Reason)
	}
	for _, b := range e.local {
		ask(b)
	}
	for _, f := range e.following {
		ask(f.bound)
	}
	return reasons
}
