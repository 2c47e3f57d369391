package robustness

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Registers checks that every object behaved as one register that all clients share: there is one history of versions, it
// agrees with the order in which requests happened, every read saw the newest version, every write replaced the version
// that it meant to, nothing that was acknowledged is gone, and nothing is there that nobody wrote. final is the state at
// the end, by key; deleted objects are missing from it.
func Registers(ops []Op, watches []Watch, final map[string]State) []string {
	byKey := map[string][]Op{}
	for _, op := range ops {
		byKey[op.Key] = append(byKey[op.Key], op)
	}
	var wrong []string
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		r := &register{key: key, ops: byKey[key], values: map[int64]string{}, writes: map[string]Op{}}
		r.read(watches)
		r.order()
		r.origins()
		r.replacements()
		end, there := final[key]
		r.end(end, there)
		wrong = append(wrong, r.wrong...)
	}
	return wrong
}

// register is one object's part of the history.
type register struct {
	key    string
	ops    []Op
	values map[int64]string // what each version says, from all that saw it
	writes map[string]Op    // by what they wrote
	wrong  []string
}

func (r *register) blame(format string, args ...any) {
	r.wrong = append(r.wrong, r.key+": "+fmt.Sprintf(format, args...))
}

// read collects the versions; two that saw one version must have seen the same.
func (r *register) read(watches []Watch) {
	see := func(version int64, value, who string) {
		if before, ok := r.values[version]; ok && before != value {
			r.blame("version %d is %q for one and %q for %s", version, before, value, who)
		}
		r.values[version] = value
	}
	for _, op := range r.ops {
		if op.Write && !op.Delete {
			r.writes[op.Value] = op
		}
		if op.Outcome == Done && op.Version != 0 {
			see(op.Version, op.Value, "a client")
		}
	}
	for _, w := range watches {
		for _, e := range w.Events {
			if e.Key == r.key && !e.Deleted {
				see(e.Version, e.Value, "a watcher")
			}
		}
	}
}

// order compares the order of versions with the order in time: what began after something else had ended must not be older.
func (r *register) order() {
	var done []Op
	for _, op := range r.ops {
		if op.Outcome == Done && op.Version != 0 {
			done = append(done, op)
		}
	}
	byEnd := slices.Clone(done)
	slices.SortFunc(byEnd, func(a, b Op) int { return cmp.Compare(a.End, b.End) })
	slices.SortFunc(done, func(a, b Op) int { return cmp.Compare(a.Start, b.Start) })
	var newest Op // of those that had ended
	next := 0
	for _, op := range done {
		for next < len(byEnd) && byEnd[next].End < op.Start {
			if byEnd[next].Version > newest.Version {
				newest = byEnd[next]
			}
			next++
		}
		switch {
		case op.Version < newest.Version:
			r.blame("%s at %s returned version %d, but version %d was known %s before", verb(op), at(op.Start), op.Version, newest.Version, op.Start-newest.End)
		case op.Write && op.Version == newest.Version:
			r.blame("the write at %s returned version %d, which was there before", at(op.Start), op.Version)
		}
	}
}

// origins asks where each version came from.
func (r *register) origins() {
	for version, value := range r.values {
		w, ok := r.writes[value]
		switch {
		case !ok:
			r.blame("version %d holds %q, which nobody wrote", version, value)
		case w.Outcome == Refused:
			r.blame("version %d holds %q, whose write was refused: %s", version, value, w.Error)
		case w.Outcome == Done && w.Version != version:
			r.blame("version %d holds %q, which was acknowledged as version %d", version, value, w.Version)
		}
	}
}

// replacements checks that nothing lies between a write and what it replaced: otherwise a write is lost.
func (r *register) replacements() {
	versions := slices.Sorted(maps.Keys(r.values))
	for _, w := range r.writes {
		if w.Outcome != Done || w.Base == 0 {
			continue
		}
		i, found := slices.BinarySearch(versions, w.Version)
		if found && i > 0 && versions[i-1] > w.Base {
			r.blame("version %d was written over version %d, but version %d lies between: it is lost", w.Version, w.Base, versions[i-1])
		}
	}
}

// end compares what is there at the end with the newest version that anybody saw.
func (r *register) end(end State, there bool) {
	var newest int64
	for version := range r.values {
		newest = max(newest, version)
	}
	deleted, maybe := false, false
	for _, op := range r.ops {
		deleted = deleted || op.Delete && op.Outcome == Done
		maybe = maybe || op.Delete && op.Outcome == Unknown
	}
	switch {
	case there && deleted:
		r.blame("it is there at the end, though its deletion was acknowledged")
	case !there && newest != 0 && !deleted && !maybe:
		r.blame("it is gone at the end, and nobody deleted it")
	case there && end.Version < newest:
		r.blame("it ends at version %d, but version %d was seen: it is lost", end.Version, newest)
	case there && r.values[end.Version] != end.Value && r.values[end.Version] != "":
		r.blame("version %d holds %q at the end, and held %q before", end.Version, end.Value, r.values[end.Version])
	}
}

func verb(op Op) string {
	if op.Write {
		return "the write"
	}
	return "the read"
}

func at(d time.Duration) string { return d.Round(time.Millisecond).String() }

// Watches checks that every watcher was told everything, once and in order.
func Watches(ops []Op, watches []Watch) []string {
	var wrong []string
	deletions := map[string]bool{} // by key, that were acknowledged
	for _, op := range ops {
		if op.Delete && op.Outcome == Done {
			deletions[op.Key] = true
		}
	}
	for i, w := range watches {
		blame := func(format string, args ...any) {
			wrong = append(wrong, fmt.Sprintf("watcher %d: ", i)+fmt.Sprintf(format, args...))
		}
		told, gone := map[string]bool{}, map[string]bool{}
		last := w.From
		for _, e := range w.Events {
			if e.Version <= last {
				blame("told of version %d of %s after version %d", e.Version, e.Key, last)
			}
			last = e.Version
			told[fmt.Sprint(e.Version, " ", e.Key)] = true
			gone[e.Key] = gone[e.Key] || e.Deleted
		}
		for _, op := range ops {
			if op.Write && !op.Delete && op.Outcome == Done && w.covers(op.Version) && !told[fmt.Sprint(op.Version, " ", op.Key)] {
				blame("never told of version %d of %s, acknowledged at %s", op.Version, op.Key, at(op.End))
			}
		}
		if len(w.Gaps) > 0 {
			continue // what was deleted in a gap is not told
		}
		for _, key := range slices.Sorted(maps.Keys(deletions)) {
			if !gone[key] {
				blame("never told that %s was deleted", key)
			}
		}
	}
	return wrong
}

// Runs checks that no pod that must run once was started twice, on one machine or on two.
func Runs(runs []Run) []string {
	var wrong []string
	first := map[string]string{}
	for _, r := range runs {
		if machine, twice := first[r.Pod]; twice {
			wrong = append(wrong, fmt.Sprintf("pod %s was started on %s and again on %s", r.Pod, machine, r.Machine))
		}
		first[r.Pod] = r.Machine
	}
	return wrong
}

// Silence is the longest time between two moments in which no request of any client was done, and when it began.
func Silence(ops []Op, from, until time.Duration) (longest, begin time.Duration) {
	ends := []time.Duration{from, until}
	for _, op := range ops {
		if op.Outcome == Done && op.End > from && op.End < until {
			ends = append(ends, op.End)
		}
	}
	slices.Sort(ends)
	for i := 1; i < len(ends); i++ {
		if gap := ends[i] - ends[i-1]; gap > longest {
			longest, begin = gap, ends[i-1]
		}
	}
	return longest, begin
}
