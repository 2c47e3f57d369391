package framework

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Term is one term of pod affinity or anti-affinity: pods it selects, in the domains of a topology key.
type Term struct {
	Key      string // of the topology
	Selector labels.Selector
	Weight   int64 // of preferred terms

	namespaces []string
	byLabel    labels.Selector // selects further namespaces; nil: none
}

// Selects says whether the term is about a pod, whose namespace has the given labels.
func (t *Term) Selects(p *Pod, namespace labels.Set) bool {
	return t.in(p.Namespace, namespace) && t.Selector.Matches(labels.Set(p.Labels))
}

// MaySelect says whether the term is about a pod for some labels of the pod's namespace.
func (t *Term) MaySelect(p *Pod) bool {
	return (t.byLabel != nil || t.in(p.Namespace, nil)) && t.Selector.Matches(labels.Set(p.Labels))
}

func (t *Term) in(name string, namespace labels.Set) bool {
	for _, n := range t.namespaces {
		if n == name {
			return true
		}
	}
	return t.byLabel != nil && t.byLabel.Matches(namespace)
}

// Terms are the pod affinities of a pod.
type Terms struct {
	Near, Apart             []Term // required
	PreferNear, PreferApart []Term
	Bad                     error // they cannot be read
}

// Any says whether there are terms at all; a nil *Terms has none.
func (t *Terms) Any() bool { return t != nil }

// termsOf reads the terms of a pod; nil when it has none.
func termsOf(pod *corev1.Pod, keys *LabelKeys) *Terms {
	a := pod.Spec.Affinity
	if a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil {
		return nil
	}
	t := &Terms{}
	if a := a.PodAffinity; a != nil {
		t.Near = t.read(pod, required(a.RequiredDuringSchedulingIgnoredDuringExecution), keys)
		t.PreferNear = t.read(pod, a.PreferredDuringSchedulingIgnoredDuringExecution, keys)
	}
	if a := a.PodAntiAffinity; a != nil {
		t.Apart = t.read(pod, required(a.RequiredDuringSchedulingIgnoredDuringExecution), keys)
		t.PreferApart = t.read(pod, a.PreferredDuringSchedulingIgnoredDuringExecution, keys)
	}
	if len(t.Near)+len(t.Apart)+len(t.PreferNear)+len(t.PreferApart) == 0 && t.Bad == nil {
		return nil
	}
	return t
}

func required(terms []corev1.PodAffinityTerm) []corev1.WeightedPodAffinityTerm {
	out := make([]corev1.WeightedPodAffinityTerm, len(terms))
	for i := range terms {
		out[i].PodAffinityTerm = terms[i]
	}
	return out
}

func (t *Terms) read(pod *corev1.Pod, list []corev1.WeightedPodAffinityTerm, keys *LabelKeys) (out []Term) {
	for i := range list {
		from := &list[i].PodAffinityTerm
		term := Term{Key: from.TopologyKey, Weight: int64(list[i].Weight), namespaces: from.Namespaces}
		var err error
		if term.Selector, err = metav1.LabelSelectorAsSelector(from.LabelSelector); err != nil {
			t.Bad = fmt.Errorf("label selector of a pod affinity term: %w", err)
			return nil
		}
		keys.Add(term.Selector)
		if from.NamespaceSelector != nil {
			if term.byLabel, err = metav1.LabelSelectorAsSelector(from.NamespaceSelector); err != nil {
				t.Bad = fmt.Errorf("namespace selector of a pod affinity term: %w", err)
				return nil
			}
			keys.Namespaces = true
		} else if len(from.Namespaces) == 0 {
			term.namespaces = []string{pod.Namespace}
		}
		out = append(out, term)
	}
	return out
}

// spreadKeys takes note of the labels that a pod's topology spread asks about.
func spreadKeys(pod *corev1.Pod, keys *LabelKeys) {
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		if s, err := metav1.LabelSelectorAsSelector(c.LabelSelector); err == nil {
			keys.Add(s)
		}
		for _, key := range c.MatchLabelKeys {
			keys.AddKey(key)
		}
	}
}

// LabelKeys are the keys of pod labels that some selector which plugins know asks about. Labels with other keys make no
// difference to scheduling: two pods that differ in those alone are placed alike.
type LabelKeys struct {
	known map[string]bool
	Epoch int // changes when a key is added
	// Namespaces says that some term selects namespaces by their labels.
	Namespaces bool
}

// Add takes the keys of a selector.
func (k *LabelKeys) Add(s labels.Selector) {
	requirements, _ := s.Requirements()
	for _, r := range requirements {
		k.AddKey(r.Key())
	}
}

// AddKey takes one key.
func (k *LabelKeys) AddKey(key string) {
	if !k.known[key] {
		if k.known == nil {
			k.known = map[string]bool{}
		}
		k.known[key] = true
		k.Epoch++
	}
}

// Len is how many keys there are.
func (k *LabelKeys) Len() int { return len(k.known) }

// Has says whether a selector asks about key.
func (k *LabelKeys) Has(key string) bool { return k.known[key] }
