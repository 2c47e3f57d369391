package kernel

import (
	"bytes"

	"github.com/google/nftables"

	"hardway/netproxy/plan"
	"hardway/netproxy/policy"
)

// change is what one map needs.
type change struct {
	name    string
	extra   []nftables.SetElement
	missing []nftables.SetElement
}

// difference compares the elements of a table with what they should be. Elements with another value count as both extra and missing. Only maps
// that hold plan elements are compared; those of shapes are dealt with by chain.
func difference(is map[string]map[string]nftables.SetElement, want []run) []change {
	var changes []change
	for m := range plan.Sources + 1 {
		changes = append(changes, change{name: m.String()})
	}
	for _, m := range policy.Maps() {
		changes = append(changes, change{name: m.String()})
	}
	wanted := map[string]map[string]bool{}
	at := func(name string) *change {
		for i := range changes {
			if changes[i].name == name {
				return &changes[i]
			}
		}
		return nil
	}
	for _, g := range want {
		c, have := at(g.name), is[g.name]
		keys := make(map[string]bool, len(g.elements))
		wanted[g.name] = keys
		for _, e := range g.elements {
			key := string(e.Key) + string(e.KeyEnd)
			keys[key] = true
			old, ok := have[key]
			if ok && bytes.Equal(old.Val, e.Val) {
				continue
			}
			if ok {
				c.extra = append(c.extra, nftables.SetElement{Key: old.Key, KeyEnd: old.KeyEnd})
			}
			c.missing = append(c.missing, e)
		}
	}
	for i := range changes {
		c := &changes[i]
		for key, e := range is[c.name] {
			if !wanted[c.name][key] {
				c.extra = append(c.extra, nftables.SetElement{Key: e.Key, KeyEnd: e.KeyEnd})
			}
		}
	}
	return changes
}
