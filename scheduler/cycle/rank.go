package cycle

import "hardway/scheduler/framework"

// rank makes the rankings of an evaluation that has all its verdicts.
func (c *Cycle) rank(e *evaluation, pod *framework.Pod) {
	e.totals.resize(max(1, len(e.localNo)))
	if e.feasible == 0 {
		e.altered = true
	}
	for _, w := range c.profile.Score {
		r := &ranking{Weighted: w}
		if pre, ok := w.Score.(framework.PreScore); ok {
			var skip bool
			if r.state, skip = pre.PreScore(c.cluster.View, pod); skip {
				continue
			}
		}
		r.norm, _ = w.Score.(framework.Normalize)
		r.among, _ = w.Score.(framework.Among)
		r.follow, _ = w.Score.(framework.Follow)
		r.raw = make([]int64, len(e.localNo))
		e.rankings = append(e.rankings, r)
		if r.among != nil {
			r.among.Among(r.state, pod, e.feasibleRows)
		}
		for i := range e.localNo {
			r.raw[i] = framework.Ignored
			if e.verdict(i) == nil {
				r.raw[i] = w.Score.Score(r.state, pod, c.cluster.View.Nodes[e.row(i)])
			}
		}
		r.scan()
	}
	e.altered = false
	e.addUpAll()
}

// feasibleRows goes over the rows that will do.
func (e *evaluation) feasibleRows(yield func(row int) bool) {
	for i := range e.localNo {
		if e.verdict(i) == nil && !yield(e.row(i)) {
			return
		}
	}
}

// rerank brings the rankings and totals up to date after verdicts and marks have changed.
func (c *Cycle) rerank(e *evaluation, pod *framework.Pod) {
	again := len(e.localNo) > e.totals.leaves
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
		if r.norm != nil {
			if r.stale {
				r.scan()
			}
			again = again || r.least != least || r.greatest != greatest
		}
	}
	e.altered = false
	if again {
		e.addUpAll()
		return
	}
	for _, row := range e.touched.Rows {
		e.totals.set(int(row), e.total(int(row)))
	}
}

// rescore asks for a raw score again.
func (c *Cycle) rescore(e *evaluation, r *ranking, pod *framework.Pod, i int) {
	old, now := r.raw[i], int64(framework.Ignored)
	if e.verdict(i) == nil {
		now = r.Score.Score(r.state, pod, c.cluster.View.Nodes[e.row(i)])
	}
	if now == old {
		return
	}
	r.raw[i] = now
	e.touched.Row(int32(i))
	if r.norm == nil {
		return
	}
	if old == framework.Ignored || old == r.least || old == r.greatest {
		r.stale = true
		return
	}
	if now != framework.Ignored {
		r.least, r.greatest = min(r.least, now), max(r.greatest, now)
	}
}

// scan looks for the least and the greatest raw score.
func (r *ranking) scan() {
	r.stale = false
	if r.norm == nil {
		return
	}
	least, greatest, any := int64(0), int64(0), false
	for _, raw := range r.raw {
		if raw == framework.Ignored {
			continue
		}
		if !any {
			least, greatest, any = raw, raw, true
			continue
		}
		least, greatest = min(least, raw), max(greatest, raw)
	}
	r.least, r.greatest = least, greatest
}

// total is the weighted sum of a position.
func (e *evaluation) total(i int) int64 {
	if e.verdict(i) != nil {
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
	if len(e.localNo) > e.totals.leaves {
		e.totals.resize(len(e.localNo))
	}
	for i := range e.localNo {
		e.totals.put(i, e.total(i))
	}
	e.totals.build()
}
