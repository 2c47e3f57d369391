package cycle

import "hardway/scheduler/framework"

// ranking is a Score plugin with its raw scores by position. They are kept up to date for positions that the local
// filters pass, whatever the following ones say: these change their minds often.
type ranking struct {
	framework.Weighted
	state  any
	norm   framework.Normalize
	among  framework.Among
	follow framework.Follow
	marks  framework.Marks

	raw []int64
	extremes
}

// extremes are the least and the greatest raw score of the positions that will do, Ignored ones apart.
type extremes struct {
	in              []bool // by position: its score is among them
	n               int
	least, greatest int64
	atLeast, atMost int  // how many have these
	stale           bool // one has no holder left and must be looked for
}

func (x *extremes) enter(v int64) {
	x.n++
	switch {
	case x.n == 1:
		x.least, x.greatest, x.atLeast, x.atMost = v, v, 1, 1
		return
	case v < x.least:
		x.least, x.atLeast = v, 1
	case v == x.least:
		x.atLeast++
	}
	switch {
	case v > x.greatest:
		x.greatest, x.atMost = v, 1
	case v == x.greatest:
		x.atMost++
	}
}

func (x *extremes) leave(v int64) {
	x.n--
	if v == x.least {
		x.atLeast--
	}
	if v == x.greatest {
		x.atMost--
	}
	x.stale = x.stale || x.n > 0 && (x.atLeast == 0 || x.atMost == 0)
}

// scan looks for them.
func (x *extremes) scan(raw []int64) {
	x.n, x.stale = 0, false
	for i, in := range x.in {
		if in {
			x.enter(raw[i])
		}
	}
	if x.n == 0 {
		x.least, x.greatest = 0, 0
	}
}

// rank makes the rankings of an evaluation that has all its verdicts.
func (c *Cycle) rank(e *evaluation, pod *framework.Pod, skip map[string]bool) {
	for _, w := range c.profile.Score {
		r := &ranking{Weighted: w, state: e.state(w.Name())}
		if pre, ok := w.Score.(framework.PreScore); ok {
			var indifferent bool
			if r.state, indifferent = pre.PreScore(c.cluster.View, pod); indifferent {
				continue
			}
		} else if skip[w.Name()] {
			continue
		}
		r.norm, _ = w.Score.(framework.Normalize)
		r.among, _ = w.Score.(framework.Among)
		r.follow, _ = w.Score.(framework.Follow)
		e.rankings = append(e.rankings, r)
		r.grow(len(e.localNo))
		if r.among != nil {
			r.among.Among(r.state, pod, e.feasibleRows)
		}
		for i := range e.localNo {
			c.rescore(e, r, pod, i)
		}
		r.scan(r.raw)
	}
	e.altered = false
	e.addUpAll()
}

func (r *ranking) grow(n int) {
	for len(r.raw) < n {
		r.raw = append(r.raw, framework.Ignored)
	}
	for r.norm != nil && len(r.in) < n {
		r.in = append(r.in, false)
	}
}

// feasibleRows goes over the rows that will do.
func (e *evaluation) feasibleRows(yield func(row int) bool) {
	for i, ok := range e.ok {
		if ok && !yield(e.row(i)) {
			return
		}
	}
}

// rerank brings the rankings and totals up to date after verdicts and marks have changed.
func (c *Cycle) rerank(e *evaluation, pod *framework.Pod) {
	again := false
	for _, r := range e.rankings {
		if r.among != nil && e.altered && r.among.Among(r.state, pod, e.feasibleRows) {
			r.marks.Every()
		}
		least, greatest := r.least, r.greatest
		for _, row := range e.dirty.Rows {
			c.rescore(e, r, pod, int(row))
		}
		each(&r.marks, len(r.raw), func(i int) { c.rescore(e, r, pod, i) })
		r.marks.Clear()
		if r.norm == nil {
			continue
		}
		for _, row := range e.flipped {
			r.settle(e, int(row), r.raw[row])
		}
		if r.stale {
			r.scan(r.raw)
		}
		again = again || r.least != least || r.greatest != greatest
	}
	e.altered = false
	if again || len(e.localNo) > e.totals.leaves || len(e.touched.Rows) > e.totals.leaves/8 {
		e.addUpAll()
		return
	}
	for _, row := range e.touched.Rows {
		e.totals.set(int(row), e.total(int(row)))
	}
}

// rescore asks for a raw score again.
func (c *Cycle) rescore(e *evaluation, r *ranking, pod *framework.Pod, i int) {
	now := int64(framework.Ignored)
	if e.localNo[i] == nil {
		now = r.Score.Score(r.state, pod, c.cluster.View.Nodes[e.row(i)])
	}
	if now != r.raw[i] {
		e.touched.Row(int32(i))
	}
	if r.norm != nil {
		r.settle(e, i, now)
	}
	r.raw[i] = now
}

// settle takes note of a position's score, as far as it counts for the extremes.
func (r *ranking) settle(e *evaluation, i int, now int64) {
	was, is := r.in[i], e.ok[i] && now != framework.Ignored
	if was == is && (!is || now == r.raw[i]) {
		return
	}
	if was {
		r.leave(r.raw[i])
	}
	if is {
		r.enter(now)
	}
	r.in[i] = is
}

// total is the weighted sum of a position.
func (e *evaluation) total(i int) int64 {
	if !e.ok[i] {
		return none
	}
	sum := int64(0)
	for _, r := range e.rankings {
		score := r.raw[i]
		switch {
		case score == framework.Ignored:
			continue
		case r.norm != nil:
			score = r.norm.Normalize(r.state, score, r.least, r.greatest)
		}
		sum += score * r.Weight
	}
	return sum
}

func (e *evaluation) addUpAll() {
	if n := max(1, len(e.localNo)); n > e.totals.leaves {
		e.totals.resize(n)
	}
	for i := range e.localNo {
		e.totals.put(i, e.total(i))
	}
	e.totals.build()
}
