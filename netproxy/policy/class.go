package policy

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"hardway/netproxy/state"
)

// selector is what peers say about pods, with the pods that it matches.
type selector struct {
	own        string          // the one namespace, if namespaces is nil
	namespaces labels.Selector // of these namespaces
	pods       labels.Selector
	members    map[*pod]bool
}

// class stands for all pods that the same selectors match.
type class struct {
	selectors map[string]bool     // by key
	named     map[portName]uint16 // what those named ports are that egress rules use
}

func everyPod() state.PolicyPeer {
	return state.PolicyPeer{Namespaces: labels.Everything(), Pods: labels.Everything()}
}

// holdSelector finds the selector of a peer, or makes it and looks for its pods.
func (s *step) holdSelector(namespace string, peer state.PolicyPeer) *interned[*selector] {
	key := "=" + namespace
	if peer.Namespaces != nil {
		namespace, key = "", peer.Namespaces.String()
	}
	held, fresh := s.selectors.hold(key + "|" + peer.Pods.String())
	if !fresh {
		return held
	}
	held.value = &selector{own: namespace, namespaces: peer.Namespaces, pods: peer.Pods, members: map[*pod]bool{}}
	for name, pods := range s.pods {
		if !s.inNamespace(held.value, name) {
			continue
		}
		for _, p := range pods {
			if peer.Pods.Matches(p.facts.Labels) {
				s.match(held, p, true)
			}
		}
	}
	return held
}

func (s *step) dropSelector(held *interned[*selector]) {
	if s.selectors.release(held) {
		for p := range held.value.members {
			s.match(held, p, false)
		}
	}
}

func (s *step) inNamespace(sel *selector, name string) bool {
	if sel.namespaces == nil {
		return sel.own == name
	}
	set, known := s.namespaces[name]
	return known && sel.namespaces.Matches(set)
}

// match notes whether a selector matches a pod.
func (s *step) match(held *interned[*selector], p *pod, does bool) {
	if does == p.matched[held] {
		return
	}
	if does {
		p.matched[held], held.value.members[p] = true, true
	} else {
		delete(p.matched, held)
		delete(held.value.members, p)
	}
	s.reclass[p] = true
}

// assignClasses finds the classes of pods.
func (s *step) assignClasses() {
	for p := range s.reclass {
		for _, held := range s.selectors.byKey {
			s.match(held, p, s.inNamespace(held.value, p.name.Namespace) && held.value.pods.Matches(p.facts.Labels))
		}
		s.assignClass(p)
	}
}

func (s *step) assignClass(p *pod) {
	old := p.class
	if len(p.matched) == 0 {
		s.leaveClass(p)
	} else {
		named := map[portName]uint16{}
		for n := range s.names {
			if number, ok := portOf(p.facts, n); ok {
				named[n] = number
			}
		}
		next, fresh := s.classes.hold(classKey(p.matched, named))
		if fresh {
			next.value = &class{selectors: map[string]bool{}, named: named}
			for held := range p.matched {
				next.value.selectors[held.key] = true
			}
			s.newClasses[next] = true
		}
		s.leaveClass(p)
		p.class = next
	}
	if p.class != old {
		s.touchAddresses(p)
	}
}

func classKey(matched map[*interned[*selector]]bool, named map[portName]uint16) string {
	var parts []string
	for held := range matched {
		parts = append(parts, held.key)
	}
	for n, number := range named {
		parts = append(parts, fmt.Sprintf("%d/%s=%d", n.protocol, n.name, number))
	}
	slices.Sort(parts)
	return strings.Join(parts, "\n")
}

func (s *step) leaveClass(p *pod) {
	c := p.class
	if c == nil {
		return
	}
	p.class = nil
	if !s.classes.release(c) {
		return
	}
	delete(s.newClasses, c)
	for _, g := range s.groups.byKey {
		key := Key{Map: AllowedPods, Direction: g.value.direction, Group: g.id, ID: c.id}
		for _, key.Family = range families {
			if g.value.keys[key] {
				delete(g.value.keys, key)
				s.permit(key, nil)
			}
		}
	}
}

// matches reports whether any of the selectors matches the class.
func (c *class) matches(any []*interned[*selector]) bool {
	return slices.ContainsFunc(any, func(held *interned[*selector]) bool { return c.selectors[held.key] })
}

// permit makes an element lead to a set of ports; nil removes it. The elements of a set live as long as something leads to it.
func (s *step) permit(k Key, to ports) {
	old := s.ports.byID[s.elements[k]]
	if to == nil {
		s.unset(k)
	} else {
		held, fresh := s.ports.hold(to.String())
		if fresh {
			held.value = to
			s.writePorts(held, s.set)
		}
		s.set(k, held.id)
	}
	if old != nil && s.ports.release(old) {
		s.writePorts(old, func(k Key, _ uint32) { s.unset(k) })
	}
}

func (s *step) writePorts(held *interned[ports], write func(Key, uint32)) {
	for _, r := range held.value {
		for _, f := range families {
			write(Key{Map: AllowedPorts, Family: f, ID: held.id, Ports: r}, 0)
		}
	}
}
