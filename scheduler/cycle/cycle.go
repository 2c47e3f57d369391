// Package cycle decides on which node a pod goes: rows and a pod in, a decision out, nothing else touched.
//
// For each signature the verdict and the raw scores of every row are kept, so that the next pod that scheduling cannot
// tell apart costs a glance at each row and new work only for those whose generation changed since: usually one, the row
// that the last pod went to. At most maxSignatures evaluations are kept, the least recently used one goes first.
package cycle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"hardway/scheduler/framework"
)

const maxSignatures = 256

// Cycle decides for the pods of one profile. It is used by one goroutine.
type Cycle struct {
	profile     *framework.Profile
	evaluations *lru.Cache[framework.Signature, *evaluation]
	pick        func(n int) int // which of n equally good nodes
}

// New makes a Cycle. pick chooses among n equally good nodes, 0 to n-1; nil means at random.
func New(profile *framework.Profile, pick func(n int) int) *Cycle {
	if pick == nil {
		pick = rand.IntN
	}
	evaluations, err := lru.New[framework.Signature, *evaluation](maxSignatures)
	if err != nil { // only for a size of nothing
		panic(err)
	}
	return &Cycle{profile: profile, evaluations: evaluations, pick: pick}
}

// Decision is where a pod goes.
type Decision struct {
	Node     string
	Feasible int // how many nodes would have done
	Checked  int // how many rows were looked at anew
}

// Refusal says why no node will do.
type Refusal struct {
	Nodes   int            // how many there are
	Reasons map[string]int // how many nodes for each reason
	Plugins []string       // that said no, sorted
	All     string         // a reason against the pod whatever the node, else ""
	Failed  bool           // a plugin could not answer
}

// Error is the sentence that the user reads, upstream's form.
func (r *Refusal) Error() string {
	head := fmt.Sprintf("0/%d nodes are available", r.Nodes)
	if r.All != "" {
		return fmt.Sprintf("%s: %s.", head, r.All)
	}
	if len(r.Reasons) == 0 {
		return head + "."
	}
	parts := make([]string, 0, len(r.Reasons))
	for reason, n := range r.Reasons {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("%s: %s.", head, strings.Join(parts, ", "))
}

// evaluation is what is known about the pods of one signature.
type evaluation struct {
	state   *framework.State
	refused *framework.Status // by PreFilter
	score   []framework.Weighted
	rows    []verdict
}

// verdict is about one row, as it was at a generation.
type verdict struct {
	generation uint64
	no         *framework.Status
	raw        []int64 // by Score plugin
}

// Decide finds the best of rows for pod. The error is a *Refusal.
func (c *Cycle) Decide(rows []*framework.Node, pod *framework.Pod) (Decision, error) {
	e := c.evaluation(pod)
	if e.refused != nil {
		return Decision{}, refusalForAll(rows, e.refused)
	}
	d := Decision{Checked: c.repair(e, rows, pod)}
	best, total := c.rank(e, rows)
	if d.Feasible = total; total == 0 {
		return d, refusal(rows, e)
	}
	d.Node = rows[best].Name
	return d, nil
}

func (c *Cycle) evaluation(pod *framework.Pod) *evaluation {
	if e, ok := c.evaluations.Get(pod.Signature); ok {
		return e
	}
	e := &evaluation{state: framework.NewState()}
	for _, p := range c.profile.PreFilter {
		if e.refused = p.PreFilter(e.state, pod); e.refused != nil {
			break
		}
	}
	for _, w := range c.profile.Score {
		if pre, ok := w.Score.(framework.PreScore); ok && pre.PreScore(e.state, pod) {
			continue
		}
		e.score = append(e.score, w)
	}
	c.evaluations.Add(pod.Signature, e)
	return e
}

// repair looks again at the rows that changed and returns how many did.
func (c *Cycle) repair(e *evaluation, rows []*framework.Node, pod *framework.Pod) (checked int) {
	if missing := len(rows) - len(e.rows); missing > 0 {
		e.rows = append(e.rows, make([]verdict, missing)...)
	}
	e.rows = e.rows[:len(rows)]
	for i, n := range rows {
		v := &e.rows[i]
		if v.generation == n.Generation {
			continue
		}
		checked++
		v.generation = n.Generation
		if v.no = c.filter(e.state, pod, n); v.no != nil {
			continue
		}
		v.raw = v.raw[:0]
		for _, s := range e.score {
			v.raw = append(v.raw, s.Score.Score(e.state, pod, n))
		}
	}
	return checked
}

// unknown is the verdict on rows of which only pods are known; it is counted nowhere.
var unknown = &framework.Status{Code: framework.Unresolvable}

func (c *Cycle) filter(s *framework.State, pod *framework.Pod, n *framework.Node) *framework.Status {
	if n.Node == nil {
		return unknown
	}
	for _, f := range c.profile.Filter {
		if no := f.Filter(s, pod, n); no != nil {
			return no
		}
	}
	return nil
}

// rank returns the row with the greatest weighted sum and how many rows will do.
func (c *Cycle) rank(e *evaluation, rows []*framework.Node) (best, feasible int) {
	greatest := make([]int64, len(e.score))
	for i := range rows {
		if e.rows[i].no != nil {
			continue
		}
		for k, raw := range e.rows[i].raw {
			greatest[k] = max(greatest[k], raw)
		}
	}
	top, ties := int64(-1), 0
	for i := range rows {
		if e.rows[i].no != nil {
			continue
		}
		feasible++
		sum := int64(0)
		for k, raw := range e.rows[i].raw {
			if norm, ok := e.score[k].Score.(framework.Normalize); ok {
				raw = norm.Normalize(raw, greatest[k])
			}
			sum += raw * e.score[k].Weight
		}
		switch {
		case sum > top:
			top, ties, best = sum, 1, i
		case sum == top:
			// Each of the equally good ones is chosen with the same probability.
			if ties++; c.pick(ties) == 0 {
				best = i
			}
		}
	}
	return best, feasible
}

func refusalForAll(rows []*framework.Node, no *framework.Status) *Refusal {
	r := &Refusal{All: no.Reason, Plugins: []string{no.Plugin}, Failed: no.Code == framework.Failed}
	for _, n := range rows {
		if n.Node != nil {
			r.Nodes++
		}
	}
	return r
}

func refusal(rows []*framework.Node, e *evaluation) *Refusal {
	r := &Refusal{Reasons: map[string]int{}}
	plugins := map[string]bool{}
	for i, n := range rows {
		if n.Node == nil {
			continue
		}
		r.Nodes++
		no := e.rows[i].no
		plugins[no.Plugin] = true
		r.Failed = r.Failed || no.Code == framework.Failed
		for reason := range strings.SplitSeq(no.Reason, "\n") {
			r.Reasons[reason]++
		}
	}
	for name := range plugins {
		r.Plugins = append(r.Plugins, name)
	}
	slices.Sort(r.Plugins)
	return r
}
