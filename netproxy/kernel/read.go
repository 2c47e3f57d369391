package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"hardway/netproxy/plan"
)

// errBroken says that a table is not ours in form: a set, a chain or a verdict is missing, foreign or different. It is built anew then.
var errBroken = errors.New("the table was changed by somebody else")

// found is what a table of ours holds.
type found struct {
	exists   bool
	elements map[string]map[string]nftables.SetElement // by map, by key
	shapes   map[string]bool                           // names of the shape chains
	stale    []chain                                   // chains whose rules are not what they should be, with what they should be
	leftover []way                                     // chains of shapes that nothing needs any more
}

// way is an element of a verdict map that leads to a chain.
type way struct {
	table string // the verdict map
	key   []byte
	chain string
}

// read looks at one table and compares its form with what it should be for the wanted chains. Chains of shapes may be missing or too many.
func (k *Kernel) read(t *nftables.Table, book rulebook, wanted []plan.Chain) (found, error) {
	f := found{elements: map[string]map[string]nftables.SetElement{}, shapes: map[string]bool{}}
	tables, err := k.conn.ListTablesOfFamily(t.Family)
	if err != nil {
		return f, fmt.Errorf("list tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == t.Name && o.Family == t.Family }) {
		return f, nil
	}
	f.exists = true
	if err := k.readSets(t, &f); err != nil {
		return f, err
	}
	return f, k.readChains(t, book, wanted, &f)
}

func (k *Kernel) readSets(t *nftables.Table, f *found) error {
	is, err := k.conn.GetSets(t)
	if err != nil {
		return fmt.Errorf("list sets: %w", err)
	}
	want := setsFor(t)
	if len(is) != len(want) {
		return errBroken
	}
	for _, w := range want {
		i := slices.IndexFunc(is, func(s *nftables.Set) bool { return s.Name == w.Name })
		if i < 0 || !sameSet(is[i], w) {
			return fmt.Errorf("set %s: %w", w.Name, errBroken)
		}
		if w.Dynamic {
			continue // what packets wrote stays
		}
		elements, err := k.conn.GetSetElements(w)
		if err != nil {
			return fmt.Errorf("read set %s: %w", w.Name, err)
		}
		byKey := make(map[string]nftables.SetElement, len(elements))
		for _, e := range elements {
			byKey[string(e.Key)+string(e.KeyEnd)] = e
		}
		f.elements[w.Name] = byKey
	}
	return k.checkVerdicts(refusalsSet, refusals(), f)
}

// checkVerdicts compares the elements of a verdict map that are there with what they should be.
func (k *Kernel) checkVerdicts(name string, want []nftables.SetElement, f *found) error {
	is := f.elements[name]
	if len(is) != len(want) {
		return fmt.Errorf("map %s: %w", name, errBroken)
	}
	for _, w := range want {
		if e, ok := is[string(w.Key)]; !ok || !sameVerdict(e, w.VerdictData) {
			return fmt.Errorf("map %s: %w", name, errBroken)
		}
	}
	return nil
}

// sameVerdict compares a verdict as the kernel tells it (its attributes, unparsed) with one that was asked for.
func sameVerdict(is nftables.SetElement, want *expr.Verdict) bool {
	kind := int32(want.Kind)
	return bytes.Contains(is.Val, []byte{byte(kind >> 24), byte(kind >> 16), byte(kind >> 8), byte(kind)}) &&
		(want.Chain == "" || bytes.Contains(is.Val, append([]byte(want.Chain), 0)))
}

func (k *Kernel) readChains(t *nftables.Table, book rulebook, wanted []plan.Chain, f *found) error {
	all, err := k.conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	is := map[string]*nftables.Chain{}
	for _, c := range all {
		if c.Table.Name == t.Name {
			is[c.Name] = c
		}
	}
	for _, c := range book.fixed() {
		if i, ok := is[c.name]; !ok || !sameHook(i, c) {
			return fmt.Errorf("chain %s: %w", c.name, errBroken)
		}
		delete(is, c.name)
		if err := k.checkRules(t, c, f); err != nil {
			return err
		}
	}
	// What is left are chains of shapes. Each has one element that leads to it, under the same name.
	for _, w := range wanted {
		if _, ok := is[w.String()]; !ok {
			continue
		}
		delete(is, w.String())
		f.shapes[w.String()] = true
		e, ok := f.elements[shapesOf(w.From)][string(shapeKey(w.Shape))]
		if !ok || !sameVerdict(e, shapeElement(w).VerdictData) {
			return fmt.Errorf("map %s: %w", shapesOf(w.From), errBroken)
		}
		if err := k.checkRules(t, book.shape(w), f); err != nil {
			return err
		}
	}
	return checkLeftover(is, f)
}

// checkLeftover notes the chains of shapes that are not wanted. Together with the wanted ones they must account for every way that there is.
func checkLeftover(rest map[string]*nftables.Chain, f *found) error {
	ways := 0
	for _, m := range entryMaps() {
		ways += len(f.elements[shapesOf(m)])
		for _, e := range f.elements[shapesOf(m)] {
			for name := range rest {
				if sameVerdict(e, &expr.Verdict{Kind: expr.VerdictGoto, Chain: name}) {
					f.leftover = append(f.leftover, way{shapesOf(m), e.Key, name})
				}
			}
		}
	}
	if len(f.leftover) != len(rest) || ways != len(f.shapes)+len(f.leftover) {
		return errBroken
	}
	return nil
}

func sameHook(is *nftables.Chain, want chain) bool {
	if want.hook == nil {
		return is.Hooknum == nil
	}
	return is.Hooknum != nil && *is.Hooknum == *want.hook && *is.Priority == *want.priority && is.Type == want.kind &&
		(is.Policy == nil || *is.Policy == nftables.ChainPolicyAccept)
}

// checkRules notes a chain whose rules do not carry the comments that they should. Who changes a rule changes or loses its comment.
func (k *Kernel) checkRules(t *nftables.Table, c chain, f *found) error {
	is, err := comments(k.counter, t, c.name)
	if err != nil {
		return fmt.Errorf("read chain %s: %w", c.name, err)
	}
	same := len(is) == len(c.rules)
	for i := 0; same && i < len(is); i++ {
		want, err := c.rules[i].userData(t.Family)
		if err != nil {
			return err
		}
		same = bytes.Equal(is[i], want)
	}
	if !same {
		f.stale = append(f.stale, c)
	}
	return nil
}
