package devices

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"hardway/scheduler/devices/selector"
)

type poolID struct{ driver, name string }

// pool is the slices of one name, of which only the newest generation counts.
type pool struct {
	id     poolID
	slices []*slice // of all generations

	// What follows is worked out by settle.
	current []*slice // of the newest generation, by name
	at      []string // nodes of slices that are of one node
	wide    bool     // there are slices for others
	whole   bool     // all slices of the generation are there
	wrong   string   // why the pool must not be used; ""
	slow    bool     // some devices need time to be bound
	sets    counters // what devices share, by name

	left   counters // of sets, what claims have left
	leftAt uint64   // Inventory.moves then
}

// counters are by the name of a set and of a counter.
type counters map[string]map[string]resource.Quantity

// slice is a ResourceSlice with its devices.
type slice struct {
	*resourcev1.ResourceSlice
	where   place
	devices []*device
}

// device is one device, with what expressions said about it.
type device struct {
	*resourcev1.Device
	id       ID
	pool     *pool
	slice    *slice
	where    place // the slice's or its own
	verdicts map[string]verdict
}

type verdict struct {
	is  bool
	err error
}

// maxVerdicts is how many expressions are remembered for a device.
const maxVerdicts = 64

// place is which nodes reach something: one, those that a selector selects, all, or none.
type place struct {
	node   string
	all    bool
	some   *nodeaffinity.NodeSelector
	broken error
}

func newPlace(node *string, all *bool, some *corev1.NodeSelector) (p place) {
	switch {
	case node != nil && *node != "":
		p.node = *node
	case all != nil && *all:
		p.all = true
	case some != nil:
		p.some, p.broken = nodeaffinity.NewNodeSelector(some)
	}
	return p
}

func (p *place) reaches(n *corev1.Node) bool {
	return p.all || p.node != "" && p.node == n.Name || p.some != nil && p.broken == nil && p.some.Match(n)
}

func newSlice(s *resourcev1.ResourceSlice) *slice {
	out := &slice{ResourceSlice: s, where: newPlace(s.Spec.NodeName, s.Spec.AllNodes, s.Spec.NodeSelector)}
	own := s.Spec.PerDeviceNodeSelection != nil && *s.Spec.PerDeviceNodeSelection
	for i := range s.Spec.Devices {
		d := &device{Device: &s.Spec.Devices[i], id: ID{s.Spec.Driver, s.Spec.Pool.Name, s.Spec.Devices[i].Name}, slice: out, where: out.where}
		if own {
			d.where = newPlace(d.NodeName, d.AllNodes, d.NodeSelector)
		}
		out.devices = append(out.devices, d)
	}
	return out
}

// perDevice says whether each device of the slice has nodes of its own.
func (s *slice) perDevice() bool {
	return s.Spec.PerDeviceNodeSelection != nil && *s.Spec.PerDeviceNodeSelection
}

// settle works out everything about a pool that does not depend on claims.
func (p *pool) settle() {
	*p = pool{id: p.id, slices: p.slices, sets: counters{}}
	newest := int64(0)
	for _, s := range p.slices {
		newest = max(newest, s.Spec.Pool.Generation)
	}
	for _, s := range p.slices {
		if s.Spec.Pool.Generation == newest {
			p.current = append(p.current, s)
		}
	}
	if len(p.current) == 0 {
		return
	}
	slices.SortFunc(p.current, func(a, b *slice) int { return cmp.Compare(a.Name, b.Name) })
	p.whole = int64(len(p.current)) == p.current[0].Spec.Pool.ResourceSliceCount
	for _, s := range p.current {
		p.find(s)
		for _, set := range s.Spec.SharedCounters {
			if p.sets[set.Name] != nil {
				p.wrong = "duplicate counter set name " + set.Name
			}
			p.sets[set.Name] = map[string]resource.Quantity{}
			for name, c := range set.Counters {
				p.sets[set.Name][name] = c.Value
			}
		}
	}
	p.check()
}

// find takes note of the nodes that a slice is for.
func (p *pool) find(s *slice) {
	switch {
	case s.where.node != "":
		p.at = append(p.at, s.where.node)
	default:
		p.wide = true
	}
}

// check looks for names that are there twice and counters that are not there at all.
func (p *pool) check() {
	seen := map[string]bool{}
	for _, s := range p.current {
		for _, d := range s.devices {
			d.pool = p
			p.slow = p.slow || len(d.BindingConditions) > 0
			if seen[d.Name] {
				p.wrong = "duplicate device name " + d.Name
			}
			seen[d.Name] = true
			for _, use := range d.ConsumesCounters {
				for name := range use.Counters {
					if _, ok := p.sets[use.CounterSet][name]; !ok {
						p.wrong = fmt.Sprintf("counter %s of set %s not found", name, use.CounterSet)
					}
				}
			}
		}
	}
}

func comparePools(a, b *pool) int {
	if a.slow != b.slow {
		if a.slow {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(a.id.driver, b.id.driver), cmp.Compare(a.id.name, b.id.name))
}

// free is what claims have left of the counters of a pool.
func (v *Inventory) free(p *pool) counters {
	if p.left != nil && p.leftAt == v.moves {
		return p.left
	}
	p.left, p.leftAt = counters{}, v.moves
	for set, of := range p.sets {
		p.left[set] = map[string]resource.Quantity{}
		for name, q := range of {
			p.left[set][name] = q.DeepCopy()
		}
	}
	for _, s := range p.current {
		for _, d := range s.devices {
			if len(d.ConsumesCounters) > 0 && v.held(d.id) {
				p.left.take(d, -1)
			}
		}
	}
	return p.left
}

// take adds what a device uses of counters, times sign.
func (c counters) take(d *device, sign int) {
	for _, use := range d.ConsumesCounters {
		set := c[use.CounterSet]
		if set == nil {
			set = map[string]resource.Quantity{}
			c[use.CounterSet] = set
		}
		for name, counter := range use.Counters {
			q := set[name].DeepCopy()
			if sign < 0 {
				q.Sub(counter.Value)
			} else {
				q.Add(counter.Value)
			}
			set[name] = q
		}
	}
}

// matches says whether an expression is true of the device, remembering the answer.
func (d *device) matches(expression string, cache *selector.Cache) (bool, error) {
	if v, ok := d.verdicts[expression]; ok {
		return v.is, v.err
	}
	var v verdict
	s, err := cache.Get(expression)
	if v.err = err; err == nil {
		v.is, v.err = s.Matches(d.id.Driver, d.Device)
	}
	if d.verdicts == nil || len(d.verdicts) >= maxVerdicts {
		d.verdicts = map[string]verdict{}
	}
	d.verdicts[expression] = v
	return v.is, v.err
}
