package announce

import (
	"hash/fnv"
	"net/netip"
	"strings"
	"time"
)

// Times of the election. See doc.go.
const (
	beatEvery  = 700 * time.Millisecond
	deadAfter  = 2 * time.Second
	spreadOver = 300 * time.Millisecond
	stay       = 3 * time.Second
	againFor   = 3 * time.Second // how long a new holder repeats its announcement
)

// situation is all that matters to one address on one node.
type situation struct {
	eligible bool
	holder   string        // "": nobody, or no Lease yet
	silent   time.Duration // since the holder was last seen to live, or since there is none
	wait     time.Duration // this node's own delay
}

// action is what to do about an address.
type action int

const (
	leave   action = iota // to others
	take                  // write ourselves into the Lease
	keep                  // hold it
	release               // write nobody into the Lease
)

// decide is the whole election.
func decide(me string, s situation) action {
	switch {
	case s.holder == me && s.eligible:
		return keep
	case s.holder == me:
		return release
	case !s.eligible:
		return leave
	case s.holder == "" && s.silent >= s.wait, s.holder != "" && s.silent >= deadAfter+s.wait:
		return take
	}
	return leave
}

// delay is what a node waits before it takes an address: a little, and another for each pair of node and address.
func delay(node string, a netip.Addr) time.Duration {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(node + "|" + a.String()))
	return time.Duration(sum.Sum64() % uint64(spreadOver))
}

// leaseName is lb-192-0-2-1; colons of IPv6 are dashes, too, and all digits are written out, for a name must not end with a dash.
func leaseName(a netip.Addr) string {
	return "lb-" + strings.NewReplacer(".", "-", ":", "-").Replace(a.StringExpanded())
}

// beatName is the Lease by which a node says that it lives.
func beatName(node string) string { return "announcer-" + node }
