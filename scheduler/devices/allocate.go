package devices

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
)

// Budget is how many devices a search may try. One pod has one budget for all nodes: claims whose requests contradict each
// other in ways that only trying can show must not stop all scheduling.
type Budget struct{ Steps int }

// DefaultBudget takes about a second.
const DefaultBudget = 2_000_000

// What a search can end with besides an allocation.
var (
	// ErrBudget means that the search was given up.
	ErrBudget = errors.New("too many combinations of devices to try")
	// ErrPool means that a pool with devices for the node contradicts itself, and that no other will do.
	ErrPool = errors.New("invalid resource pools were encountered")

	errTooMany = errors.New("more devices than a claim can hold")
)

// Allocate finds devices for claims on a node: one result for each claim, nil when there are none. An error other than ErrPool and ErrBudget is
// about a claim or a class, whatever the node.
func (v *Inventory) Allocate(node *corev1.Node, claims []*resourcev1.ResourceClaim, budget *Budget) ([]resourcev1.AllocationResult, error) {
	s := &search{inventory: v, node: node, claims: claims, budget: budget, mine: map[*device]uint64{}, parts: map[*device]*share{}, used: map[*pool]counters{}}
	bad, err := s.prepare()
	if err != nil {
		return nil, err
	}
	found, err := s.claim(0)
	switch {
	case err != nil && !errors.Is(err, errTooMany):
		return nil, err
	case !found && bad:
		return nil, ErrPool
	case !found:
		return nil, nil
	}
	out := make([]resourcev1.AllocationResult, len(claims))
	for i := range claims {
		out[i] = s.result(i)
	}
	return out, nil
}

// search is one walk through the combinations.
type search struct {
	inventory   *Inventory
	node        *corev1.Node
	claims      []*resourcev1.ResourceClaim
	budget      *Budget
	wants       [][]*want
	constraints [][]*constraint
	candidates  []*device // that the node reaches, in order
	chosen      [][]choice

	mine  map[*device]uint64 // chosen as a whole: by which claims, a bit each
	parts map[*device]*share // chosen in part
	used  map[*pool]counters // by what is chosen
}

// choice is a device for a request.
type choice struct {
	*device
	by    *alternative
	draws capacity // of a device that is shared
}

// prepare collects what does not change during the search. bad says that a pool was left out which contradicts itself.
func (s *search) prepare() (bad bool, err error) {
	if len(s.claims) > 64 {
		return false, fmt.Errorf("%d claims of one pod are more than can be looked at", len(s.claims))
	}
	changing := ""
	for _, p := range s.inventory.reachable(s.node) {
		devices := reached(p, s.node)
		switch {
		case len(devices) == 0:
		case !p.whole:
			changing = p.id.driver + "/" + p.id.name
		case p.wrong != "":
			bad = true
		default:
			s.candidates = append(s.candidates, devices...)
		}
	}
	for _, c := range s.claims {
		wants, err := s.inventory.wants(c)
		if err != nil {
			return bad, err
		}
		for _, w := range wants {
			for _, a := range w.alternatives {
				if err := s.fix(c, a, changing, bad); err != nil {
					return bad, err
				}
			}
		}
		constraints, err := constraintsOf(c)
		if err != nil {
			return bad, err
		}
		s.wants, s.constraints = append(s.wants, wants), append(s.constraints, constraints)
	}
	s.chosen = make([][]choice, len(s.claims))
	return bad, nil
}

// reached are the devices of a pool that a node reaches.
func reached(p *pool, n *corev1.Node) (out []*device) {
	for _, s := range p.current {
		if !s.perDevice() && !s.where.reaches(n) {
			continue
		}
		for _, d := range s.devices {
			if d.where.reaches(n) {
				out = append(out, d)
			}
		}
	}
	return out
}

// fix finds the devices of a request for all of them: they must be known before the search.
func (s *search) fix(c *resourcev1.ResourceClaim, a *alternative, changing string, bad bool) error {
	switch a.mode {
	case resourcev1.DeviceAllocationModeExactCount:
		return nil
	case resourcev1.DeviceAllocationModeAll:
	default:
		return fmt.Errorf("claim %s/%s, request %s: unsupported count mode %s", c.Namespace, c.Name, a.name, a.mode)
	}
	if changing != "" {
		return fmt.Errorf("claim %s/%s, request %s: asks for all devices, but resource pool %s is currently being updated", c.Namespace, c.Name, a.name, changing)
	}
	if bad {
		return fmt.Errorf("claim %s/%s, request %s: asks for all devices, but a resource pool is currently invalid", c.Namespace, c.Name, a.name)
	}
	for _, d := range s.candidates {
		is, err := a.selects(s.inventory, d)
		if err != nil {
			return fmt.Errorf("claim %s/%s: %w", c.Namespace, c.Name, err)
		}
		if is && s.enough(a, d) {
			a.all = append(a.all, d)
		}
	}
	a.count = len(a.all)
	return nil
}

// claim finds devices for claim c and those after it.
func (s *search) claim(c int) (bool, error) {
	if c == len(s.claims) {
		return true, nil
	}
	found, err := s.request(c, 0)
	if errors.Is(err, errTooMany) && c > 0 {
		return false, nil // with other devices for the claims before, it may take fewer
	}
	return found, err
}

// request finds devices for request r of claim c and all that comes after it. errTooMany says that no choice before it can help.
func (s *search) request(c, r int) (bool, error) {
	if r == len(s.wants[c]) {
		return s.claim(c + 1)
	}
	w := s.wants[c][r]
	hopeless := true
	for i, a := range w.alternatives {
		w.chosen = i
		found, err := s.device(c, r, a, 0, 0)
		switch {
		case errors.Is(err, errTooMany):
			continue
		case found || err != nil:
			return found, err
		}
		hopeless = false
	}
	if hopeless {
		return false, errTooMany
	}
	return false, nil
}

// device finds the n-th device of a request among the candidates from a place on, and all that comes after it. Within a
// request the order makes no difference, so only one order is tried.
func (s *search) device(c, r int, a *alternative, n, from int) (bool, error) {
	all := a.mode == resourcev1.DeviceAllocationModeAll
	switch {
	case all && a.count == 0:
		return false, nil
	case n == a.count:
		return s.request(c, r+1)
	case len(s.chosen[c])+a.count-n > resourcev1.AllocationResultsMaxSize:
		return false, errTooMany
	case all:
		d := a.all[n]
		if ok, err := s.take(c, a, d); !ok || err != nil {
			return false, err
		}
		return s.goOn(c, a, d, func() (bool, error) { return s.device(c, r, a, n+1, 0) })
	}
	for i := from; i < len(s.candidates); i++ {
		d := s.candidates[i]
		if s.busy(c, a, d) {
			continue
		}
		is, err := a.selects(s.inventory, d)
		if err != nil {
			return false, fmt.Errorf("claim %s/%s: %w", s.claims[c].Namespace, s.claims[c].Name, err)
		}
		if !is {
			continue
		}
		if ok, err := s.take(c, a, d); err != nil {
			return false, err
		} else if !ok {
			continue
		}
		found, err := s.goOn(c, a, d, func() (bool, error) { return s.device(c, r, a, n+1, i+1) })
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// goOn continues after a device was taken, and gives it back when that leads nowhere.
func (s *search) goOn(c int, a *alternative, d *device, next func() (bool, error)) (bool, error) {
	found, err := next()
	if !found {
		s.give(c, a, d)
	}
	return found, err
}

// busy says that a device cannot be had: somebody has it, or the claim itself for another request.
func (s *search) busy(c int, a *alternative, d *device) bool {
	if a.admin {
		return s.mine[d]&(1<<c) != 0
	}
	return s.inventory.taken[d.id] > 0 || s.mine[d] != 0
}

// enough says whether what others leave of a device's capacities is enough.
func (s *search) enough(a *alternative, d *device) bool {
	if len(d.Capacity) == 0 && a.needs == nil {
		return true
	}
	draws, ok := a.draws(d)
	if !ok {
		return false
	}
	for _, sh := range []*share{s.inventory.shared[d.id], s.parts[d]} {
		if sh != nil {
			draws.add(sh.used, 1)
		}
	}
	for name, has := range d.Capacity {
		if q := draws[name]; q.Cmp(has.Value) > 0 {
			return false
		}
	}
	return true
}

// take chooses a device, if it can be had and no constraint speaks against it.
func (s *search) take(c int, a *alternative, d *device) (bool, error) {
	if s.budget.Steps--; s.budget.Steps < 0 {
		return false, ErrBudget
	}
	if s.busy(c, a, d) || !s.counted(d) || !a.tolerated(d) {
		return false, nil
	}
	for i, k := range s.constraints[c] {
		if k.add(a, d) {
			continue
		}
		for _, before := range s.constraints[c][:i] {
			before.drop(a)
		}
		if a.mode == resourcev1.DeviceAllocationModeAll {
			return false, fmt.Errorf("claim %s/%s, request %s: cannot add device %s because a claim constraint would not be satisfied", s.claims[c].Namespace, s.claims[c].Name, a.name, d.Name)
		}
		return false, nil
	}
	if !s.enough(a, d) {
		for _, k := range s.constraints[c] {
			k.drop(a)
		}
		return false, nil
	}
	s.record(c, a, d)
	return true, nil
}

// counted says whether the pool's counters have enough left for a device. Those of a shared device count once.
func (s *search) counted(d *device) bool {
	if len(d.ConsumesCounters) == 0 || s.partly(d) {
		return true
	}
	left, used := s.inventory.free(d.pool), s.used[d.pool]
	for _, use := range d.ConsumesCounters {
		for name, counter := range use.Counters {
			q := used[use.CounterSet][name].DeepCopy()
			q.Add(counter.Value)
			if q.Cmp(left[use.CounterSet][name]) > 0 {
				return false
			}
		}
	}
	return true
}

// partly says that somebody has a part of a shared device.
func (s *search) partly(d *device) bool {
	return shareable(d) && (s.inventory.shared[d.id] != nil || s.parts[d] != nil)
}

func shareable(d *device) bool {
	return d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations
}

// record takes note of a choice; give undoes it.
func (s *search) record(c int, a *alternative, d *device) {
	if !s.partly(d) {
		s.count(d, 1)
	}
	ch := choice{device: d, by: a}
	if shareable(d) {
		ch.draws, _ = a.draws(d)
		if s.parts[d] == nil {
			s.parts[d] = &share{used: capacity{}}
		}
		s.parts[d].claims++
		s.parts[d].used.add(ch.draws, 1)
	} else {
		s.mine[d] |= 1 << c
	}
	s.chosen[c] = append(s.chosen[c], ch)
}

func (s *search) give(c int, a *alternative, d *device) {
	last := len(s.chosen[c]) - 1
	ch := s.chosen[c][last]
	s.chosen[c] = s.chosen[c][:last]
	if sh := s.parts[d]; sh != nil {
		sh.used.add(ch.draws, -1)
		if sh.claims--; sh.claims == 0 {
			delete(s.parts, d)
		}
	} else if s.mine[d] &^= 1 << c; s.mine[d] == 0 {
		delete(s.mine, d)
	}
	if !s.partly(d) {
		s.count(d, -1)
	}
	for _, k := range s.constraints[c] {
		k.drop(a)
	}
}

func (s *search) count(d *device, sign int) {
	if len(d.ConsumesCounters) == 0 {
		return
	}
	if s.used[d.pool] == nil {
		s.used[d.pool] = counters{}
	}
	s.used[d.pool].take(d, sign)
}
