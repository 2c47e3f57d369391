package policy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"hardway/netproxy/plan"
	"hardway/netproxy/state"
)

// Planner remembers what the kernel should hold and says what a change adds and takes away. It is not safe for concurrent use.
type Planner struct {
	node       string
	namespaces map[string]labels.Set
	policies   map[string]map[string]*state.Policy // by namespace, by name
	pods       map[string]map[string]*pod          // by namespace, by name
	claims     map[netip.Addr][]*pod               // who says to have an address: usually one

	groups    interner[*group]
	selectors interner[*selector]
	classes   interner[*class]
	ports     interner[ports]
	names     map[portName]int // named ports that egress rules use, with the number of rules

	elements map[Key]uint32
}

// pod is a pod with what has been made of it.
type pod struct {
	name    state.Name
	facts   *state.Pod
	matched map[*interned[*selector]]bool
	class   *interned[*class]
	groups  [2]*interned[*group] // by direction; nil: not isolated
}

// New makes a planner for a node in a cluster without policies.
func New(node string) *Planner {
	return &Planner{node: node, namespaces: map[string]labels.Set{}, policies: map[string]map[string]*state.Policy{}, pods: map[string]map[string]*pod{},
		claims: map[netip.Addr][]*pod{}, groups: newInterner[*group](), selectors: newInterner[*selector](), classes: newInterner[*class](),
		ports: newInterner[ports](), names: map[portName]int{}, elements: map[Key]uint32{}}
}

// Elements lists everything that the kernel should hold now, in order.
func (p *Planner) Elements() []Element {
	out := make([]Element, 0, len(p.elements))
	for k, v := range p.elements {
		out = append(out, Element{k, v})
	}
	slices.SortFunc(out, compareElements)
	return out
}

// Isolated is the number of pods of this node that policies isolate in some direction.
func (p *Planner) Isolated() int {
	seen := map[netip.Addr]bool{}
	for k := range p.elements {
		if k.Map == Isolated {
			seen[k.Addr] = true
		}
	}
	return len(seen)
}

func compareElements(a, b Element) int {
	return cmp.Or(a.Key.compare(b.Key), cmp.Compare(a.Value, b.Value))
}

// Step takes the changes in and returns the difference that they make, all in one.
func (p *Planner) Step(changes state.PolicyChanges) Step {
	s := &step{Planner: p, before: map[Key]*uint32{}, addresses: map[netip.Addr]bool{}, regroup: map[*pod]bool{}, reclass: map[*pod]bool{},
		recompile: map[*interned[*group]]bool{}, newClasses: map[*interned[*class]]bool{}}
	s.takePods(changes.Pods)
	s.takeNamespaces(changes.Namespaces)
	s.takePolicies(changes.Policies)
	// Each of these leads to the next: which policies select a pod, what the policies say, which of their selectors match which pods, what
	// that allows.
	s.assignGroups()
	s.compileGroups()
	s.assignClasses()
	s.allow()
	s.assignAddresses()
	return s.difference()
}

// step is one step in the making.
type step struct {
	*Planner
	before     map[Key]*uint32 // the values of the elements that were touched, nil for those that were not there
	addresses  map[netip.Addr]bool
	regroup    map[*pod]bool
	reclass    map[*pod]bool
	recompile  map[*interned[*group]]bool
	newClasses map[*interned[*class]]bool
}

func (s *step) takePods(changes map[state.Name]*state.Pod) {
	for name, facts := range changes {
		old := s.pods[name.Namespace][name.Name]
		if old != nil {
			for _, a := range old.facts.Addrs {
				s.claim(a, old, false)
			}
		}
		if facts == nil {
			if old != nil {
				s.forget(old)
			}
			continue
		}
		if old == nil {
			old = &pod{name: name, matched: map[*interned[*selector]]bool{}}
			if s.pods[name.Namespace] == nil {
				s.pods[name.Namespace] = map[string]*pod{}
			}
			s.pods[name.Namespace][name.Name] = old
		}
		old.facts = facts
		for _, a := range facts.Addrs {
			s.claim(a, old, true)
		}
		s.regroup[old], s.reclass[old] = true, true
	}
}

// claim notes who says to have an address.
func (s *step) claim(a netip.Addr, by *pod, add bool) {
	s.addresses[a] = true
	left := slices.DeleteFunc(s.claims[a], func(o *pod) bool { return o == by })
	if add {
		left = append(left, by)
	}
	if s.claims[a] = left; len(left) == 0 {
		delete(s.claims, a)
	}
}

// forget lets go of all that a pod that is gone holds.
func (s *step) forget(gone *pod) {
	delete(s.pods[gone.name.Namespace], gone.name.Name)
	if len(s.pods[gone.name.Namespace]) == 0 {
		delete(s.pods, gone.name.Namespace)
	}
	for held := range gone.matched {
		delete(held.value.members, gone)
	}
	for d := range gone.groups {
		s.leaveGroup(gone, Direction(d))
	}
	s.leaveClass(gone)
	delete(s.regroup, gone)
	delete(s.reclass, gone)
}

func (s *step) takeNamespaces(changes map[string]*labels.Set) {
	for name, set := range changes {
		if set == nil {
			delete(s.namespaces, name)
		} else {
			s.namespaces[name] = *set
		}
		for _, p := range s.pods[name] {
			s.reclass[p] = true
		}
	}
}

func (s *step) takePolicies(changes map[state.Name]*state.Policy) {
	for name, facts := range changes {
		if facts == nil {
			delete(s.policies[name.Namespace], name.Name)
			if len(s.policies[name.Namespace]) == 0 {
				delete(s.policies, name.Namespace)
			}
		} else {
			if s.policies[name.Namespace] == nil {
				s.policies[name.Namespace] = map[string]*state.Policy{}
			}
			s.policies[name.Namespace][name.Name] = facts
		}
		for _, p := range s.pods[name.Namespace] {
			if p.facts.Node == s.node {
				s.regroup[p] = true
			}
		}
		for _, g := range s.groups.byKey {
			if g.value.namespace == name.Namespace && slices.Contains(g.value.policies, name.Name) {
				s.recompile[g] = true
			}
		}
	}
}

// assignAddresses writes what is to be found under the addresses of pods that changed. Of several pods with one address the youngest has it.
func (s *step) assignAddresses() {
	for a := range s.addresses {
		var has *pod
		for _, p := range s.claims[a] {
			if has == nil || younger(p, has) {
				has = p
			}
		}
		key := Key{Family: plan.FamilyOf(a), Addr: a}
		for d := range [2]Direction{} {
			key.Map, key.Direction = Isolated, Direction(d)
			if has != nil && has.groups[d] != nil {
				s.set(key, has.groups[d].id)
			} else {
				s.unset(key)
			}
		}
		key = Key{Map: Classes, Family: key.Family, Addr: a}
		if has != nil && has.class != nil {
			s.set(key, has.class.id)
		} else {
			s.unset(key)
		}
	}
}

func younger(a, b *pod) bool {
	return cmp.Or(a.facts.Created.Compare(b.facts.Created), cmp.Compare(a.name.Namespace, b.name.Namespace), cmp.Compare(a.name.Name, b.name.Name)) > 0
}

// touch remembers an element as it was before the step.
func (s *step) touch(k Key) {
	if _, known := s.before[k]; known {
		return
	}
	s.before[k] = nil
	if v, ok := s.elements[k]; ok {
		s.before[k] = &v
	}
}

func (s *step) set(k Key, v uint32) {
	s.touch(k)
	s.elements[k] = v
}

func (s *step) unset(k Key) {
	s.touch(k)
	delete(s.elements, k)
}

func (s *step) difference() Step {
	var out Step
	for k, was := range s.before {
		is, there := s.elements[k]
		if was != nil && (!there || is != *was) {
			out.Delete = append(out.Delete, Element{k, *was})
		}
		if there && (was == nil || is != *was) {
			out.Add = append(out.Add, Element{k, is})
		}
	}
	slices.SortFunc(out.Delete, compareElements)
	slices.SortFunc(out.Add, compareElements)
	return out
}

// sortedKeys is for things that are made into a key.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
