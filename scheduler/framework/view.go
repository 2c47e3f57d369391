package framework

import (
	"k8s.io/apimachinery/pkg/labels"

	"hardway/scheduler/devices"
)

// View is the cluster as one decision sees it. The loop that decides also owns it, and changes it in place between two
// decisions: taking a view costs nothing. Plugins only read it.
type View struct {
	Nodes []*Node // by row, never nil; a row may stand for no node (Node.Node is nil)
	Known int     // rows that stand for a node

	Domains map[string]*Domains // by topology key; see DomainsOf
	Images  map[string]int      // on how many nodes an image is, by name

	Namespaces map[string]labels.Set // their labels
	// Affine counts pods on nodes that have affinity terms of any kind, Repelling those with required anti-affinity.
	Affine, Repelling int
	// Ranks counts the pods on nodes by priority.
	Ranks map[int32]int
	// Nominated are the pods without a node that were promised one, by row.
	Nominated map[int][]*Pod

	Storage *Storage
	Devices *devices.Inventory

	// Owners finds the selector by which Services and controllers select a pod; nil when nothing is known of them.
	Owners func(p *Pod) labels.Selector
}

// NewView is of an empty cluster.
func NewView() *View {
	return &View{Domains: map[string]*Domains{}, Images: map[string]int{}, Namespaces: map[string]labels.Set{}, Nominated: map[int][]*Pod{}, Ranks: map[int32]int{}, Storage: NewStorage(), Devices: devices.New()}
}

// Outranks says whether there is a pod on a node with a priority below the given one.
func (v *View) Outranks(priority int32) bool {
	for p := range v.Ranks {
		if p < priority {
			return true
		}
	}
	return false
}

// DomainsOf returns how a topology key divides the nodes, working it out at the first question about the key.
func (v *View) DomainsOf(key string) *Domains {
	d := v.Domains[key]
	if d == nil {
		d = &Domains{Key: key, ids: map[string]int32{}}
		v.Domains[key] = d
		for _, n := range v.Nodes {
			d.Place(n)
		}
	}
	return d
}

// Domains divides rows by the value of one node label.
type Domains struct {
	Key  string
	Of   []int32   // by row: its domain, or -1 without the label
	Rows [][]int32 // by domain
	ids  map[string]int32
}

// At is the domain of a row, or -1.
func (d *Domains) At(n *Node) int32 { return d.Of[n.Row] }

// Place puts a row where its label says.
func (d *Domains) Place(n *Node) {
	for len(d.Of) <= n.Row {
		d.Of = append(d.Of, -1)
	}
	to := int32(-1)
	if n.Node != nil {
		if value, ok := n.Labels[d.Key]; ok {
			to = d.id(value)
		}
	}
	from := d.Of[n.Row]
	if from == to {
		return
	}
	if from >= 0 {
		d.Rows[from] = without(d.Rows[from], int32(n.Row))
	}
	if to >= 0 {
		d.Rows[to] = append(d.Rows[to], int32(n.Row))
	}
	d.Of[n.Row] = to
}

func (d *Domains) id(value string) int32 {
	id, ok := d.ids[value]
	if !ok {
		id = int32(len(d.Rows))
		d.ids[value] = id
		d.Rows = append(d.Rows, nil)
	}
	return id
}

func without(rows []int32, row int32) []int32 {
	for i, r := range rows {
		if r == row {
			rows[i] = rows[len(rows)-1]
			return rows[:len(rows)-1]
		}
	}
	return rows
}

// Marks collects rows that must be asked about again.
type Marks struct {
	All  bool
	Anew bool // the state itself must be computed again
	Rows []int32
	seen []bool
}

// Row marks one row.
func (m *Marks) Row(row int32) {
	if m == nil || m.All {
		return
	}
	for int(row) >= len(m.seen) {
		m.seen = append(m.seen, false)
	}
	if !m.seen[row] {
		m.seen[row] = true
		m.Rows = append(m.Rows, row)
	}
}

// Domain marks all rows of a domain.
func (m *Marks) Domain(d *Domains, id int32) {
	if m == nil || m.All {
		return
	}
	for _, row := range d.Rows[id] {
		m.Row(row)
	}
}

// Every marks all rows.
func (m *Marks) Every() {
	if m != nil {
		m.All = true
	}
}

// Clear forgets all marks.
func (m *Marks) Clear() {
	for _, row := range m.Rows {
		m.seen[row] = false
	}
	m.All, m.Anew, m.Rows = false, false, m.Rows[:0]
}
