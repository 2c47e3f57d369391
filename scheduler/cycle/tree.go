package cycle

// none is the total of a position that will not do.
const none = -1

// tree keeps the totals of all positions so that the greatest, and one of several equal ones, is found in logarithmic
// time, and one total changed in the same. It is a complete binary tree in two arrays: node i has the children 2i and
// 2i+1, the leaves are the second half.
type tree struct {
	leaves int
	best   []int64
	ties   []int32 // positions below with that total
}

// resize makes room for n positions; all are without a total then.
func (t *tree) resize(n int) {
	t.leaves = 1
	for t.leaves < n {
		t.leaves *= 2
	}
	t.best, t.ties = make([]int64, 2*t.leaves), make([]int32, 2*t.leaves)
	for i := range t.best {
		t.best[i] = none
	}
}

// put sets a total without mending what is above it; see mend and build.
func (t *tree) put(position int, total int64) {
	i := t.leaves + position
	t.best[i], t.ties[i] = total, 1
	if total == none {
		t.ties[i] = 0
	}
}

func (t *tree) at(position int) int64 { return t.best[t.leaves+position] }

// set changes one total.
func (t *tree) set(position int, total int64) {
	if t.at(position) == total {
		return
	}
	t.put(position, total)
	for i := (t.leaves + position) / 2; i > 0; i /= 2 {
		t.join(i)
	}
}

// build mends everything after many puts.
func (t *tree) build() {
	for i := t.leaves - 1; i > 0; i-- {
		t.join(i)
	}
}

func (t *tree) join(i int) {
	left, right := 2*i, 2*i+1
	switch {
	case t.best[left] > t.best[right]:
		t.best[i], t.ties[i] = t.best[left], t.ties[left]
	case t.best[left] < t.best[right]:
		t.best[i], t.ties[i] = t.best[right], t.ties[right]
	default:
		t.best[i], t.ties[i] = t.best[left], t.ties[left]+t.ties[right]
	}
}

// top returns one of the positions with the greatest total, by pick among n equal ones; -1 when none will do.
func (t *tree) top(pick func(n int) int) int {
	if len(t.best) == 0 || t.best[1] == none {
		return -1
	}
	k := int32(0)
	if n := t.ties[1]; n > 1 {
		k = int32(pick(int(n)))
	}
	i := 1
	for i < t.leaves {
		best := t.best[i]
		i *= 2
		if t.best[i] != best {
			i++
		} else if t.best[i+1] == best && k >= t.ties[i] {
			k -= t.ties[i]
			i++
		}
	}
	return i - t.leaves
}
