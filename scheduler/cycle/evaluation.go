package cycle

import (
	"slices"

	"hardway/scheduler/framework"
	"hardway/scheduler/snapshot"
)

// evaluation is what is known about the pods of one signature. Positions are rows, or the places of rows in only.
type evaluation struct {
	at      snapshot.Mark
	refused *framework.Status // by PreFilter, for all nodes
	only    []int             // rows that alone may do; nil: all
	askers  []asked           // every PreFilter, with its state

	local     []bound             // filters that look at one node only
	localNo   []*framework.Status // their verdict by position
	following []*follower         // filters that follow other pods
	ok        []bool              // by position: all filters say yes
	rankings  []*ranking

	totals   tree
	feasible int
	altered  bool // which rows will do has changed since the rankings among them were made
	checked  int
	reused   bool                      // it was made for a pod before
	dirty    framework.Marks           // rows to be looked at anew, for all
	touched  framework.Marks           // rows whose total must be added up anew
	moved    []int                     // rows whose node stands elsewhere now, in refresh
	flipped  []int32                   // rows about which the following filters have changed their minds, in refresh
	told     *Refusal                  // the last one, while nothing has changed
	crowded  []*framework.Status       // verdicts on rows that are promised to others or refused outside, in this decision
	outside  map[int]*framework.Status // by row: what others refused in this decision
}

// bound is a filter with its state.
type bound struct {
	framework.Filter
	state any
}

// asked is a plugin with what its PreFilter returned.
type asked struct {
	plugin string
	state  any
}

// follower is a filter that follows other pods, with its verdict by position. A verdict is only kept up to date while
// the local filters say yes.
type follower struct {
	bound
	follow framework.Follow
	no     []*framework.Status
	marks  framework.Marks
}

func (e *evaluation) row(position int) int {
	if e.only != nil {
		return e.only[position]
	}
	return position
}

// position is the opposite of row; -1 when there is none.
func (e *evaluation) position(row int) int {
	if e.only == nil {
		if row < len(e.localNo) {
			return row
		}
		return -1
	}
	for i, r := range e.only {
		if r == row {
			return i
		}
	}
	return -1
}

func (e *evaluation) states() map[string]any {
	var out map[string]any
	for _, a := range e.askers {
		if a.state != nil {
			if out == nil {
				out = map[string]any{}
			}
			out[a.plugin] = a.state
		}
	}
	return out
}

// verdict is the first no about a position.
func (e *evaluation) verdict(i int) *framework.Status {
	if e.localNo[i] != nil {
		return e.localNo[i]
	}
	for _, f := range e.following {
		if f.no[i] != nil {
			return f.no[i]
		}
	}
	return nil
}

// unknown is the verdict on rows of which only pods are known; it is counted nowhere.
var unknown = &framework.Status{Code: framework.Unresolvable}

// build evaluates a pod from nothing.
func (c *Cycle) build(pod *framework.Pod) *evaluation {
	e := &evaluation{at: c.cluster.Journal.Now()}
	skip := c.prepare(e, pod)
	if e.refused != nil {
		return e
	}
	for _, f := range c.profile.Filter {
		if skip[f.Name()] {
			continue
		}
		b := bound{f, e.state(f.Name())}
		if follow, ok := f.(framework.Follow); ok {
			e.following = append(e.following, &follower{bound: b, follow: follow})
		} else {
			e.local = append(e.local, b)
		}
	}
	n := len(c.cluster.View.Nodes)
	if e.only != nil {
		n = len(e.only)
	}
	e.grow(n)
	for i := range n {
		c.judge(e, pod, i)
	}
	c.step(filtered)
	c.rank(e, pod, skip)
	c.step(ranked)
	e.checked = n
	return e
}

// prepare runs PreFilter. It returns the plugins that have nothing to say about the pod.
func (c *Cycle) prepare(e *evaluation, pod *framework.Pod) (skip map[string]bool) {
	skip = map[string]bool{}
	var names map[string]int
	for _, p := range c.profile.PreFilter {
		got := p.PreFilter(c.cluster.View, pod)
		if got.No != nil {
			e.refused = got.No
			return nil
		}
		skip[p.Name()] = got.Skip
		e.askers = append(e.askers, asked{p.Name(), got.State})
		if got.Nodes != nil {
			names = intersect(names, got.Nodes)
		}
	}
	if names != nil {
		e.only = []int{}
		for name := range names {
			if row := c.cluster.Node(name); row != nil {
				e.only = append(e.only, row.Row)
			}
		}
	}
	return skip
}

// intersect keeps the names that are in both; a nil set stands for all names.
func intersect(set map[string]int, names []string) map[string]int {
	out := map[string]int{}
	for _, n := range names {
		if _, ok := set[n]; ok || set == nil {
			out[n] = 1
		}
	}
	return out
}

func (e *evaluation) state(plugin string) any {
	for _, a := range e.askers {
		if a.plugin == plugin {
			return a.state
		}
	}
	return nil
}

// grow makes room for n positions.
func (e *evaluation) grow(n int) {
	for len(e.localNo) < n {
		e.localNo, e.ok = append(e.localNo, unknown), append(e.ok, false)
	}
	for _, f := range e.following {
		for len(f.no) < n {
			f.no = append(f.no, nil)
		}
	}
	for _, r := range e.rankings {
		r.grow(n)
	}
}

// judge asks all filters about a position.
func (c *Cycle) judge(e *evaluation, pod *framework.Pod, i int) {
	n := c.cluster.View.Nodes[e.row(i)]
	e.localNo[i] = unknown
	if n.Node != nil {
		e.localNo[i] = nil
		for _, f := range e.local {
			if e.localNo[i] = f.Filter.Filter(f.state, pod, n); e.localNo[i] != nil {
				break
			}
		}
	}
	if e.localNo[i] == nil {
		for _, f := range e.following {
			f.no[i] = f.Filter.Filter(f.state, pod, n)
		}
	}
	e.count(i)
}

// count takes note of whether a position will do, and says whether that is new.
func (e *evaluation) count(i int) (turned bool) {
	is := e.verdict(i) == nil
	if e.ok[i] == is {
		return false
	}
	e.ok[i], e.altered = is, true
	if is {
		e.feasible++
	} else {
		e.feasible--
	}
	return true
}

// refresh brings an evaluation up to date with the cluster; false when it must be built anew.
func (c *Cycle) refresh(e *evaluation, pod *framework.Pod) bool {
	if e.refused != nil {
		return e.at == c.cluster.Journal.Now()
	}
	e.crowded = e.crowded[:0]
	e.grow(len(c.cluster.View.Nodes))
	e.dirty.Clear()
	e.moved = e.moved[:0]
	known := c.cluster.Journal.Since(e.at, func(ev *snapshot.Event) {
		if e.dirty.Row(int32(ev.Row)); ev.Moved {
			e.moved = append(e.moved, ev.Row)
		}
	})
	if !known {
		return false
	}
	// Where a node stands is known as it is now only. So the nodes come first, and pods that came or went on one that
	// has moved are counted anew with all the others.
	clean := true
	c.cluster.Journal.Since(e.at, func(ev *snapshot.Event) {
		if ev.Pod == nil {
			c.follow(e, pod, ev)
		} else if len(e.moved) > 0 {
			clean = clean && !slices.Contains(e.moved, ev.Row)
		}
	})
	if !clean || e.anew() {
		return false
	}
	c.cluster.Journal.Since(e.at, func(ev *snapshot.Event) {
		if ev.Pod != nil {
			c.follow(e, pod, ev)
		}
	})
	e.at = c.cluster.Journal.Now()
	e.checked = len(e.dirty.Rows)
	if len(e.dirty.Rows) == 0 {
		return true
	}
	c.repair(e, pod)
	return true
}

// follow tells the plugins that follow others of one event.
func (c *Cycle) follow(e *evaluation, pod *framework.Pod, ev *snapshot.Event) {
	n := c.cluster.View.Nodes[ev.Row]
	for _, f := range e.following {
		f.follow.Follow(f.state, pod, ev.Pod, n, ev.Sign, &f.marks)
	}
	for _, r := range e.rankings {
		if r.follow != nil {
			r.follow.Follow(r.state, pod, ev.Pod, n, ev.Sign, &r.marks)
		}
	}
}

// anew says whether a plugin asks for a new state.
func (e *evaluation) anew() bool {
	for _, f := range e.following {
		if f.marks.Anew {
			return true
		}
	}
	for _, r := range e.rankings {
		if r.marks.Anew {
			return true
		}
	}
	return false
}

// repair looks again at what is marked.
func (c *Cycle) repair(e *evaluation, pod *framework.Pod) {
	e.told = nil
	e.touched.Clear()
	e.flipped = e.flipped[:0]
	for _, row := range e.dirty.Rows {
		c.judge(e, pod, int(row))
		e.touched.Row(row)
	}
	for _, f := range e.following {
		each(&f.marks, len(f.no), func(i int) { c.rejudge(e, f, pod, i) })
		f.marks.Clear()
	}
	c.step(filtered)
	c.rerank(e, pod)
	c.step(ranked)
}

// rejudge asks one following filter about a position again.
func (c *Cycle) rejudge(e *evaluation, f *follower, pod *framework.Pod, i int) {
	if e.localNo[i] != nil {
		return
	}
	f.no[i] = f.Filter.Filter(f.state, pod, c.cluster.View.Nodes[e.row(i)])
	if e.count(i) {
		e.touched.Row(int32(i))
		e.flipped = append(e.flipped, int32(i))
	}
}

// each calls f for every marked row below n.
func each(m *framework.Marks, n int, f func(i int)) {
	if m.All {
		for i := range n {
			f(i)
		}
		return
	}
	for _, row := range m.Rows {
		f(int(row))
	}
}
