package robustness

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Fault is one thing that goes wrong, and is put right after a while.
type Fault struct {
	At, For time.Duration
	Kind    string
	Machine string // "" where all are meant, or who is meant is only known at the time
	Unit    string // for faults of one daemon
	Other   string // for faults between two machines
}

func (f Fault) String() string {
	text := fmt.Sprintf("%7s  %s", f.At.Round(time.Second), f.Kind)
	for _, part := range []struct{ before, name string }{{" of ", f.Unit}, {" on ", f.Machine}, {" and ", f.Other}} {
		if part.name != "" {
			text += part.before + part.name
		}
	}
	if f.For > 0 {
		text += fmt.Sprintf(" for %s", f.For.Round(time.Second))
	}
	return text
}

// kind is a row of the table of faults.
type kind struct {
	name     string
	weight   int // how often, compared with the others
	on       group
	daemon   bool          // of one daemon of the machine
	shortest time.Duration // how long it stays; 0: it is over at once
	longest  time.Duration
}

type group int

const (
	nobody group = iota // or found at the time
	controllers
	workers
	both
	pairs // of controllers
)

var kinds = []kind{
	{"kill -9", 6, both, true, 0, 0},
	{"clean stop", 2, both, true, 1 * time.Second, 10 * time.Second},
	{"pause", 3, both, true, 2 * time.Second, 20 * time.Second},
	{"out of memory", 1, controllers, true, 5 * time.Second, 10 * time.Second},
	{"power cut", 2, both, false, 2 * time.Second, 15 * time.Second},
	{"all power cut", 1, nobody, false, 2 * time.Second, 5 * time.Second},
	{"cable pulled", 3, both, false, 3 * time.Second, 20 * time.Second},
	{"cable of etcd's leader pulled", 2, nobody, false, 5 * time.Second, 20 * time.Second},
	{"partition", 2, pairs, false, 5 * time.Second, 20 * time.Second},
	{"one-way partition", 2, pairs, false, 5 * time.Second, 20 * time.Second},
	{"half of the packets lost", 2, both, false, 5 * time.Second, 15 * time.Second},
	{"slow disk", 2, controllers, false, 5 * time.Second, 20 * time.Second},
	{"full disk", 2, controllers, false, 5 * time.Second, 15 * time.Second},
	{"compaction", 2, nobody, false, 0, 0},
	{"certificate replaced", 1, controllers, false, 0, 0},
	{"load balancer restarted", 1, nobody, false, 0, 0},
}

// daemons are the units of a machine.
var daemons = map[group][]string{
	controllers: {"hardway-apiserver", "hardway-apiserver", "hardway-controllers", "hardway-scheduler"}, // the first is hit twice as often
	workers:     {"hardway-nodeagent", "hardway-netproxy", "hardway-dns"},
}

// calm is how long the cluster is left alone after a fault.
const (
	calmLeast = 5 * time.Second
	calmMost  = 12 * time.Second
)

// Plan is what goes wrong in a run, decided by the seed alone. One fault is over before the next begins, so a majority of
// the controllers is always meant to work, but for the moments when all power is cut.
func Plan(seed uint64, length time.Duration, controlPlane, nodes []string) []Fault {
	random := rand.New(rand.NewPCG(seed, 0))
	between := func(a, b time.Duration) time.Duration {
		if b <= a {
			return a
		}
		return a + time.Duration(random.Int64N(int64(b-a)))
	}
	one := func(names []string) string { return names[random.IntN(len(names))] }
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	var plan []Fault
	for now := calmLeast; ; {
		k := pick(random.IntN(total))
		f := Fault{At: now, For: between(k.shortest, k.longest), Kind: k.name}
		on := k.on
		if on == both {
			on = []group{controllers, workers}[random.IntN(2)]
		}
		switch on {
		case controllers, pairs:
			f.Machine = one(controlPlane)
		case workers:
			f.Machine = one(nodes)
		}
		if k.daemon {
			f.Unit = one(daemons[on])
		}
		if on == pairs {
			f.Other = one(slices.DeleteFunc(slices.Clone(controlPlane), func(name string) bool { return name == f.Machine }))
		}
		now += f.For + between(calmLeast, calmMost)
		if now > length {
			return plan
		}
		plan = append(plan, f)
	}
}

func pick(n int) kind {
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k
		}
	}
	return kinds[0]
}
