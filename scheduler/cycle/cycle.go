// Package cycle decides on which node a pod goes: the cluster and a pod in, a decision out, nothing else touched.
//
// What is found out about a pod is kept under its signature as an evaluation: the verdict and the raw scores of every
// row, and the totals in a tree. The next pod that scheduling cannot tell apart starts from there. The journal of the
// cluster says what has changed since, usually one row, the one that the last pod went to; that row is looked at anew,
// and the plugins that follow other pods mark what else may differ for them alone. So a pod like the one before costs
// work for what changed and a walk down the tree, whatever the number of nodes: a Deployment's pods are placed as a
// batch without being handled as one.
//
// At most maxEvaluations are kept, the least recently used one goes first. Pods whose volumes or devices have a say in where they go,
// and pods for few named nodes, are evaluated afresh.
package cycle

import (
	"math/rand/v2"

	lru "github.com/hashicorp/golang-lru/v2"

	"hardway/scheduler/framework"
	"hardway/scheduler/snapshot"
)

const maxEvaluations = 256

// Cycle decides for the pods of one profile. It is used by one goroutine.
type Cycle struct {
	profile     *framework.Profile
	cluster     *snapshot.Cluster
	evaluations *lru.Cache[framework.Signature, *evaluation]
	pick        func(n int) int // which of n equally good nodes

	// Step is told when a part of a decision is done, under upstream's names of the parts; nil: nobody wants to know.
	Step func(what string)
}

// New makes a Cycle. pick chooses among n equally good nodes, 0 to n-1; nil means at random.
func New(profile *framework.Profile, cluster *snapshot.Cluster, pick func(n int) int) *Cycle {
	if pick == nil {
		pick = rand.IntN
	}
	evaluations, err := lru.New[framework.Signature, *evaluation](maxEvaluations)
	if err != nil { // only for a size of nothing
		panic(err)
	}
	return &Cycle{profile: profile, cluster: cluster, evaluations: evaluations, pick: pick}
}

// Decision is where a pod goes.
type Decision struct {
	Node     *framework.Node
	Feasible int  // how many nodes would have done
	Checked  int  // how many rows were looked at anew
	Reused   bool // what was known of a pod like it was of use
	states   map[string]any
}

// State is what PreFilter of a plugin computed for the pod, for Reserve and PreBind.
func (d *Decision) State(plugin string) any { return d.states[plugin] }

// Opinion is what somebody outside says about nodes that will do, by name.
type Opinion struct {
	No    map[string]*framework.Status // they will not do after all
	Score map[string]int64             // to be added to their totals
}

// Ask asks somebody outside about the nodes that will do for a pod.
type Ask func(nodes []*framework.Node) (Opinion, error)

// Decide finds the best node for pod. The error is a *Refusal.
func (c *Cycle) Decide(pod *framework.Pod) (Decision, error) { return c.DecideWith(pod, nil) }

// DecideWith is Decide with the opinion of others; ask may be nil.
func (c *Cycle) DecideWith(pod *framework.Pod, ask Ask) (Decision, error) {
	e := c.evaluate(pod)
	if e.refused != nil {
		return Decision{}, c.refusalForAll(e, pod)
	}
	d := Decision{Feasible: e.feasible, Checked: e.checked, Reused: e.reused, states: e.states()}
	e.outside = nil
	restore := c.heedPromises(e, pod)
	defer restore()
	if ask != nil {
		opinion, err := ask(c.nodesThatDo(e))
		if err != nil {
			return d, &Refusal{Nodes: c.cluster.View.Known, All: err.Error(), Failed: true}
		}
		defer c.heed(e, opinion)()
	}
	at := e.totals.top(c.pick)
	if p := c.promised(e, pod); p >= 0 {
		at = p
	}
	if at < 0 {
		return d, c.refusal(e, pod)
	}
	d.Node = c.cluster.View.Nodes[e.row(at)]
	return d, nil
}

// nodesThatDo are the nodes that are still in the running.
func (c *Cycle) nodesThatDo(e *evaluation) (out []*framework.Node) {
	for i := range e.ok {
		if e.totals.at(i) != none {
			out = append(out, c.cluster.View.Nodes[e.row(i)])
		}
	}
	return out
}

// heed takes an opinion into the totals. The returned function takes it out again.
func (c *Cycle) heed(e *evaluation, o Opinion) (restore func()) {
	old := map[int]int64{}
	for i := range e.ok {
		total := e.totals.at(i)
		if total == none {
			continue
		}
		name := c.cluster.View.Nodes[e.row(i)].Name
		no := o.No[name]
		if no == nil && o.Score[name] == 0 {
			continue
		}
		old[i] = total
		if no != nil {
			if e.outside == nil {
				e.outside = map[int]*framework.Status{}
			}
			e.outside[e.row(i)] = no
			e.crowded = append(e.crowded, no)
			e.totals.set(i, none)
		} else {
			e.totals.set(i, total+o.Score[name])
		}
	}
	return func() {
		for i, total := range old {
			e.totals.set(i, total)
		}
	}
}

// promised is the position of the node that has been promised to the pod, if it will do now; else -1.
func (c *Cycle) promised(e *evaluation, pod *framework.Pod) int {
	name := c.cluster.Promised(pod.UID)
	if name == "" {
		return -1
	}
	row := c.cluster.Node(name)
	if row == nil {
		return -1
	}
	at := e.position(row.Row)
	if at < 0 || e.totals.at(at) == none {
		return -1
	}
	return at
}

// heedPromises takes the nodes out of the running on which the pod would not leave room for those of at least its
// priority that have been promised them. The returned function puts them back.
func (c *Cycle) heedPromises(e *evaluation, pod *framework.Pod) (restore func()) {
	type old struct {
		at    int
		total int64
	}
	var taken []old
	for row := range c.cluster.View.Nominated {
		at := e.position(row)
		if at < 0 || e.totals.at(at) == none {
			continue
		}
		if no := c.fits(e, pod, c.cluster.View.Nodes[row]); no != nil {
			taken = append(taken, old{at, e.totals.at(at)})
			e.totals.set(at, none)
			e.crowded = append(e.crowded, no)
		}
	}
	return func() {
		for _, o := range taken {
			e.totals.set(o.at, o.total)
		}
	}
}

// Verdict is why a pod cannot go to a node by itself; nil when it can. It is for explanations.
func (c *Cycle) Verdict(pod *framework.Pod, node *framework.Node) *framework.Status {
	e := c.evaluate(pod)
	if e.refused != nil {
		return e.refused
	}
	if at := e.position(node.Row); at >= 0 {
		return e.verdict(at)
	}
	return unnamed
}

func (c *Cycle) step(what string) {
	if c.Step != nil {
		c.Step(what)
	}
}

// The parts of a decision.
const (
	filtered = "Computing predicates done"
	ranked   = "Prioritizing done"
)

func (c *Cycle) evaluate(pod *framework.Pod) *evaluation {
	view := c.cluster.View
	if pod.Personal() {
		if len(pod.Spec.ResourceClaims) > 0 || !view.Storage.Free(pod) {
			return c.build(pod)
		}
		pod = pod.WithoutVolumes()
	}
	var signature framework.Signature
	if view.Owners != nil && len(pod.Spec.TopologySpreadConstraints) == 0 {
		signature = pod.Sign(c.cluster.Columns, view.Owners(pod))
	} else {
		signature = pod.Sign(c.cluster.Columns, nil)
	}
	if e, ok := c.evaluations.Get(signature); ok && c.refresh(e, pod) {
		e.reused = true
		return e
	}
	e := c.build(pod)
	if e.only == nil {
		c.evaluations.Add(signature, e)
	}
	return e
}
