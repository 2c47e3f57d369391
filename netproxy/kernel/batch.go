package kernel

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"hardway/netproxy/plan"
)

// elementsPerMessage keeps a netlink attribute list below its limit of 64 KiB; an element takes at most about 130 bytes.
const elementsPerMessage = 400

// batch is one transaction in the making: everything that is written to it takes effect at once or not at all.
type batch struct {
	conn *nftables.Conn
	err  error // the first
}

func (b *batch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

// createTable adds a table with its sets and fixed chains.
func (b *batch) createTable(t *nftables.Table, book rulebook) {
	b.conn.AddTable(t)
	chains := book.fixed()
	for _, c := range chains {
		b.createChain(t, c)
	}
	for _, s := range setsFor(t) {
		b.note(b.conn.AddSet(s, nil))
		if s.Name == refusalsSet {
			b.note(b.conn.SetAddElements(s, refusals()))
		}
	}
	for _, c := range chains {
		b.fill(t, c)
	}
}

func (b *batch) createChain(t *nftables.Table, c chain) {
	b.conn.AddChain(&nftables.Chain{Table: t, Name: c.name, Hooknum: c.hook, Type: c.kind, Priority: c.priority})
}

// fill adds the rules of a chain that is empty.
func (b *batch) fill(t *nftables.Table, c chain) {
	for _, r := range c.rules {
		data, err := r.userData(t.Family)
		b.note(err)
		b.conn.AddRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Name: c.name, Table: t}, Exprs: r.exprs, UserData: data})
	}
}

// refill replaces the rules of a chain.
func (b *batch) refill(t *nftables.Table, c chain) {
	b.conn.FlushChain(&nftables.Chain{Name: c.name, Table: t})
	b.fill(t, c)
}

// shape adds the chain of a shape and the way to it.
func (b *batch) shape(t *nftables.Table, book rulebook, c plan.Chain) {
	made := book.shape(c)
	b.createChain(t, made)
	b.fill(t, made)
	b.note(b.conn.SetAddElements(&nftables.Set{Table: t, Name: shapesOf(c.From), IsMap: true}, []nftables.SetElement{shapeElement(c)}))
}

// dropShape is the reverse of shape.
func (b *batch) dropShape(t *nftables.Table, w way) {
	b.note(b.conn.SetDeleteElements(&nftables.Set{Table: t, Name: w.table, IsMap: true}, []nftables.SetElement{{Key: w.key}}))
	b.conn.FlushChain(&nftables.Chain{Table: t, Name: w.chain})
	b.conn.DelChain(&nftables.Chain{Table: t, Name: w.chain})
}

func shapeElement(c plan.Chain) nftables.SetElement {
	return nftables.SetElement{Key: shapeKey(c.Shape), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: c.String()}}
}

// addElements and deleteElements write the elements of one map.
func (b *batch) addElements(t *nftables.Table, name string, elements []nftables.SetElement) {
	b.elements(t, name, elements, b.conn.SetAddElements)
}

func (b *batch) deleteElements(t *nftables.Table, name string, elements []nftables.SetElement) {
	b.elements(t, name, elements, b.conn.SetDeleteElements)
}

func (b *batch) elements(t *nftables.Table, name string, elements []nftables.SetElement, do func(*nftables.Set, []nftables.SetElement) error) {
	for part := range slices.Chunk(elements, elementsPerMessage) {
		if err := do(&nftables.Set{Table: t, Name: name, IsMap: true}, part); err != nil {
			b.note(fmt.Errorf("elements of %s: %w", name, err))
		}
	}
}
