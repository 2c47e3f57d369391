package snapshot

import "hardway/scheduler/framework"

// remembered is how many events a Journal keeps. Who has fallen behind further starts anew, which costs about as much
// as catching up with so many events.
const remembered = 1 << 14

// Event is one change of the cluster.
type Event struct {
	Row  int
	Pod  *framework.Pod // that came or left; nil: the node itself changed
	Sign int32          // 1: it came, or the node has Moved; -1: it left
	// Moved says of a change of the node that it may be in other domains now, or admit others: its labels or taints
	// differ, or it came or went.
	Moved bool
}

// Journal is what has changed lately, in order: those who keep conclusions about the cluster bring them up to date from
// here.
type Journal struct {
	events []Event // a ring
	next   uint64  // number of the next event
	epoch  uint64  // changes when something happened that no event describes
}

// Mark is a place in a Journal.
type Mark struct{ next, epoch uint64 }

// Now is the place after the last event.
func (j *Journal) Now() Mark { return Mark{j.next, j.epoch} }

// Since calls f for every event after a place; false when they are not all known any more, and then f is not called.
func (j *Journal) Since(m Mark, f func(*Event)) bool {
	if m.epoch != j.epoch || j.next-m.next > uint64(len(j.events)) {
		return false
	}
	for i := m.next; i < j.next; i++ {
		f(&j.events[i%remembered])
	}
	return true
}

// forget makes every place before this one too old.
func (j *Journal) forget() { j.epoch++ }

func (j *Journal) add(e Event) {
	if len(j.events) < remembered {
		j.events = append(j.events, e)
	} else {
		j.events[j.next%remembered] = e
	}
	j.next++
}
