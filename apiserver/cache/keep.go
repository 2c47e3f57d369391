package cache

import (
	"slices"
	"time"
)

// How many snapshots a kind keeps for lists that are continued, and for how long. A page of an older one is read from
// etcd, until that has dropped the revision too.
const (
	keepMax = 32
	keepAge = 5 * time.Minute
)

// keeper holds on to snapshots, oldest first.
type keeper struct{ list []kept }

type kept struct {
	snapshot *Snapshot
	when     time.Time
}

func (k *keeper) add(s *Snapshot, now time.Time) {
	if k.at(s.Rev) != nil {
		return
	}
	if len(k.list) >= keepMax {
		k.list = slices.Delete(k.list, 0, 1)
	}
	k.list = append(k.list, kept{s, now})
}

func (k *keeper) at(rev int64) *Snapshot {
	for _, e := range k.list {
		if e.snapshot.Rev == rev {
			return e.snapshot
		}
	}
	return nil
}

// sweep lets go of what is past its age.
func (k *keeper) sweep(now time.Time) {
	k.list = slices.DeleteFunc(k.list, func(e kept) bool { return now.Sub(e.when) > keepAge })
}
