package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"hardway/netproxy/state"
)

// Step is the difference between two states of the kernel. Elements to delete come with their old values; an element whose value changes is
// in both lists. All lists are ordered.
type Step struct {
	Delete    []Element
	Add       []Element
	NewChains []Chain
	OldChains []Chain
	// Flows are the UDP addresses that lost an endpoint, are new, or are gone.
	Flows []Flow
}

// Empty reports whether the kernel has nothing to do.
func (s Step) Empty() bool {
	return len(s.Delete)+len(s.Add)+len(s.NewChains)+len(s.OldChains) == 0
}

// Planner remembers what the kernel should hold and says what a change adds and takes away. It is not safe for concurrent use.
//
// Two services may claim the same address; that is somebody's mistake, or a moment between two events, and must not mix them up. A cluster IP
// belongs to the senior of the services that claim it, and a service that does not have all of its cluster IPs is not served at all. An external
// address and port, or a node port, belongs to the senior of the services that are served and claim it.
type Planner struct {
	node     state.Node
	services map[state.Name]*service
	owners   map[netip.Addr][]*state.Service // claims to cluster IPs, senior first; never empty lists
	claims   map[Key][]claim                 // claims to units, senior first; never empty lists
	chains   map[Chain]int                   // how many elements in force need the chain
	health   map[state.Name]Health
	announce map[state.Name][]Announced
}

type service struct {
	facts    state.Facts
	compiled Compiled // the zero value while the service is not served
}

// claim is the wish of one service for one unit: elements that are in force together or not at all.
type claim struct {
	by       *state.Service
	elements []Element
}

// unit names the unit that an element belongs to: what belongs to an external address or a node port goes with it, all others are by themselves.
func unit(k Key) Key {
	switch k.Map {
	case InsideVIPs:
		k.Map = VIPs
	case InsideNodePorts:
		k.Map = NodePorts
	case Sources:
		k.Map, k.From = VIPs, netip.Prefix{}
	}
	return k
}

// New makes a planner for a node that serves nothing yet.
func New(node state.Node) *Planner {
	return &Planner{node: node, services: map[state.Name]*service{}, owners: map[netip.Addr][]*state.Service{}, claims: map[Key][]claim{},
		chains: map[Chain]int{}, health: map[state.Name]Health{}, announce: map[state.Name][]Announced{}}
}

// Step takes the changes in and returns the difference that they make, all in one.
func (p *Planner) Step(changes state.Changes) Step {
	d := differ{planner: p, before: map[Key][]Element{}, chains: map[Chain]int{}}
	changed := map[state.Name]bool{}
	for _, c := range changes.Services {
		changed[c.Name] = true
		d.service(c.Name, c.Facts)
	}
	if n := changes.Node; n != nil && (n.Name != p.node.Name || n.Zone != p.node.Zone) {
		// Where this node is decides for every service; this happens when an operator moves a node to another zone.
		p.node = *n
		for name, s := range p.services {
			if !changed[name] {
				d.compile(name, s.facts)
			}
		}
	} else if n != nil {
		p.node = *n
	}
	return d.step()
}

// Elements lists everything that the kernel should hold now, in order.
func (p *Planner) Elements() []Element {
	out := make([]Element, 0, len(p.claims))
	for _, claims := range p.claims {
		out = append(out, claims[0].elements...)
	}
	slices.SortFunc(out, compareElements)
	return out
}

// Chains lists the chains that the kernel should hold now, in order.
func (p *Planner) Chains() []Chain {
	return slices.SortedFunc(maps.Keys(p.chains), Chain.compare)
}

// Flows lists the UDP addresses of all services.
func (p *Planner) Flows() []Flow {
	var out []Flow
	for _, s := range p.services {
		out = append(out, s.compiled.Flows...)
	}
	return out
}

// Health lists the health check node ports of all services, by port.
func (p *Planner) Health() []Health {
	return slices.SortedFunc(maps.Values(p.health), func(a, b Health) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Service.String(), b.Service.String()))
	})
}

// Announced says for every load balancer address of a service whether this node could answer for it.
func (p *Planner) Announced() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, addresses := range p.announce {
		for _, a := range addresses {
			out[a.Addr] = out[a.Addr] || a.Here
		}
	}
	return out
}

// Len is the number of services that are served.
func (p *Planner) Len() int { return len(p.services) }

// differ collects one step.
type differ struct {
	planner *Planner
	before  map[Key][]Element // the elements in force before the step, of every unit that was touched
	chains  map[Chain]int     // how the need for chains changed
	flows   []Flow
}

// service takes in what is known about a service now. Whoever gains or loses a cluster IP by it is compiled again, too.
func (d *differ) service(name state.Name, facts state.Facts) {
	p := d.planner
	var again []state.Name
	if old := p.services[name]; old != nil {
		for _, a := range old.facts.Service.ClusterIPs {
			p.owners[a] = slices.DeleteFunc(p.owners[a], func(s *state.Service) bool { return s.Name == name })
			if len(p.owners[a]) == 0 {
				delete(p.owners, a)
			} else {
				again = append(again, p.owners[a][0].Name)
			}
		}
	}
	if facts.Service != nil {
		for _, a := range facts.Service.ClusterIPs {
			owners := p.owners[a]
			if len(owners) > 0 {
				again = append(again, owners[0].Name)
			}
			at, _ := slices.BinarySearchFunc(owners, facts.Service, seniority)
			p.owners[a] = slices.Insert(owners, at, facts.Service)
		}
	}
	d.compile(name, facts)
	for _, other := range again {
		if other != name {
			d.compile(other, p.services[other].facts)
		}
	}
}

// served reports whether a service has all of its cluster IPs.
func (p *Planner) served(s *state.Service) bool {
	for _, a := range s.ClusterIPs {
		if p.owners[a][0].Name != s.Name {
			return false
		}
	}
	return true
}

// compile replaces the claims of a service.
func (d *differ) compile(name state.Name, facts state.Facts) {
	p := d.planner
	old := p.services[name]
	if old == nil {
		old = &service{}
	}
	next := &service{facts: facts}
	if facts.Service != nil && p.served(facts.Service) {
		next.compiled = Compile(p.node, facts)
	}
	sameRank := old.facts.Service != nil && facts.Service != nil && old.facts.Service.Created.Equal(facts.Service.Created)
	had, wanted := units(old.compiled.Elements), units(next.compiled.Elements)
	for u := range had {
		if _, keeps := wanted[u]; !keeps || !sameRank {
			d.release(u, name)
		}
	}
	for u, elements := range wanted {
		if !sameRank || !slices.Equal(had[u], elements) {
			d.claim(u, claim{facts.Service, elements})
		}
	}
	d.flows = append(d.flows, staleFlows(old.compiled.Flows, next.compiled.Flows)...)
	if facts.Service == nil {
		delete(p.services, name)
	} else {
		p.services[name] = next
	}
	if len(next.compiled.Announced) > 0 {
		p.announce[name] = next.compiled.Announced
	} else {
		delete(p.announce, name)
	}
	if h := next.compiled.Health; h != nil {
		p.health[name] = *h
	} else {
		delete(p.health, name)
	}
}

func units(elements []Element) map[Key][]Element {
	out := make(map[Key][]Element, len(elements))
	for i, e := range elements {
		u := unit(e.Key)
		if had, ok := out[u]; ok {
			out[u] = append(had, e)
		} else {
			out[u] = elements[i : i+1 : i+1]
		}
	}
	return out
}

// touch remembers what was in force of a unit before the step.
func (d *differ) touch(u Key) {
	if _, known := d.before[u]; !known {
		d.before[u] = d.planner.inForce(u)
	}
}

func (p *Planner) inForce(u Key) []Element {
	if claims := p.claims[u]; len(claims) > 0 {
		return claims[0].elements
	}
	return nil
}

func (d *differ) release(u Key, by state.Name) {
	d.touch(u)
	left := slices.DeleteFunc(d.planner.claims[u], func(c claim) bool { return c.by.Name == by })
	if len(left) == 0 {
		delete(d.planner.claims, u)
	} else {
		d.planner.claims[u] = left
	}
}

func (d *differ) claim(u Key, c claim) {
	d.touch(u)
	claims := d.planner.claims[u]
	if i := slices.IndexFunc(claims, func(o claim) bool { return o.by.Name == c.by.Name }); i >= 0 {
		claims[i] = c
		return
	}
	at, _ := slices.BinarySearchFunc(claims, c.by, func(o claim, s *state.Service) int { return seniority(o.by, s) })
	d.planner.claims[u] = slices.Insert(claims, at, c)
}

// seniority orders services by age, then by name.
func seniority(a, b *state.Service) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name.Namespace, b.Name.Namespace), cmp.Compare(a.Name.Name, b.Name.Name))
}

// step compares before and after of every unit that was touched.
func (d *differ) step() Step {
	out := Step{Flows: d.flows}
	for u, before := range d.before {
		after := d.planner.inForce(u)
		for _, e := range before {
			if !slices.Contains(after, e) {
				out.Delete = append(out.Delete, e)
				d.need(e, -1)
			}
		}
		for _, e := range after {
			if !slices.Contains(before, e) {
				out.Add = append(out.Add, e)
				d.need(e, +1)
			}
		}
	}
	for chain, change := range d.chains {
		was := d.planner.chains[chain]
		is := was + change
		switch {
		case was == 0 && is > 0:
			out.NewChains = append(out.NewChains, chain)
		case was > 0 && is == 0:
			out.OldChains = append(out.OldChains, chain)
		}
		if is == 0 {
			delete(d.planner.chains, chain)
		} else {
			d.planner.chains[chain] = is
		}
	}
	slices.SortFunc(out.Delete, compareElements)
	slices.SortFunc(out.Add, compareElements)
	slices.SortFunc(out.NewChains, Chain.compare)
	slices.SortFunc(out.OldChains, Chain.compare)
	return out
}

// need counts an element that uses a chain. Entries without endpoints use none.
func (d *differ) need(e Element, n int) {
	if e.Value.Shape.N > 0 {
		d.chains[Chain{e.Key.Family, e.Key.Map, e.Value.Shape}] += n
	}
}

func compareElements(a, b Element) int { return a.Key.compare(b.Key) }

// staleFlows lists the flows of a service that may have gone stale: those that lost an endpoint, those that are new (a client may have talked
// to the address before it was a service's), and those that are gone.
func staleFlows(old, next []Flow) []Flow {
	same := func(a Flow) func(Flow) bool {
		return func(b Flow) bool { return a.Family == b.Family && a.Addr == b.Addr && a.Port == b.Port }
	}
	var out []Flow
	for _, f := range next {
		i := slices.IndexFunc(old, same(f))
		if i < 0 || len(old[i].Good) == 0 && len(f.Good) > 0 || lost(old[i], f) {
			out = append(out, f)
		}
	}
	for _, f := range old {
		if !slices.ContainsFunc(next, same(f)) {
			f.Good = nil
			out = append(out, f)
		}
	}
	return out
}

func lost(old, next Flow) bool {
	for _, to := range old.Good {
		if !slices.Contains(next.Good, to) {
			return true
		}
	}
	return false
}
