package cycle

import (
	"slices"
	"strings"

	"hardway/scheduler/framework"
)

// Refusal says why no node will do.
type Refusal struct {
	Nodes   int            // how many there are
	Reasons map[string]int // how many nodes for each reason
	Plugins []string       // that said no, sorted
	All     string         // a reason against the pod whatever the node, else ""
	Failed  bool           // a plugin could not answer
	// Preemption is what came of looking for pods to evict; "" when that was not asked or a way was found.
	Preemption string
}

// Error is the sentence that the user reads, upstream's form.
func (r *Refusal) Error() string {
	if r.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	text := framework.Count(r.Nodes, r.Reasons, r.All)
	if r.Preemption != "" {
		text += " preemption: " + r.Preemption
	}
	return text
}

// unnamed is the verdict on nodes that a pod names neither directly nor by its required affinity.
var unnamed = framework.No(framework.Unresolvable, "NodeAffinity", "node(s) didn't satisfy plugin(s) [NodeAffinity]")

func (c *Cycle) refusalForAll(e *evaluation, _ *framework.Pod) *Refusal {
	no := e.refused
	return &Refusal{Nodes: c.cluster.View.Known, All: no.Reason, Plugins: []string{no.Plugin}, Failed: no.Code == framework.Failed}
}

func (c *Cycle) refusal(e *evaluation, _ *framework.Pod) *Refusal {
	if e.told != nil && len(e.crowded) == 0 {
		again := *e.told
		return &again
	}
	r := &Refusal{Nodes: c.cluster.View.Known, Reasons: map[string]int{}}
	counts := map[*framework.Status]int{}
	seen := 0
	for i := range e.localNo {
		no := e.verdict(i)
		if no == nil || no == unknown {
			continue
		}
		seen++
		counts[no]++
	}
	for _, no := range e.crowded {
		seen++
		counts[no]++
	}
	if e.only != nil && seen < r.Nodes {
		counts[unnamed] += r.Nodes - seen
	}
	for no, n := range counts {
		r.Failed = r.Failed || no.Code == framework.Failed
		if !slices.Contains(r.Plugins, no.Plugin) {
			r.Plugins = append(r.Plugins, no.Plugin)
		}
		for reason := range strings.SplitSeq(no.Reason, "\n") {
			r.Reasons[reason] += n
		}
	}
	slices.Sort(r.Plugins)
	if len(e.crowded) == 0 {
		e.told = r
	}
	again := *r
	return &again
}
