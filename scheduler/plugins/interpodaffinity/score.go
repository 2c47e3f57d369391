package interpodaffinity

import (
	"k8s.io/apimachinery/pkg/labels"

	"hardway/scheduler/framework"
)

// scoreState is what each domain is worth, by topology key.
type scoreState struct {
	view      *framework.View
	namespace labels.Set
	own       bool // the pod has preferences itself
	theirs    bool // those of pods that are there count
	sums      []worth
}

// worth is the sum of weights for each domain.
type worth struct {
	domains *framework.Domains
	of      []int64
}

// PreScore implements framework.PreScore.
func (pl Plugin) PreScore(v *framework.View, p *framework.Pod) (any, bool) {
	s := &scoreState{view: v, namespace: v.Namespaces[p.Namespace]}
	s.own = p.Terms.Any() && len(p.Terms.PreferNear)+len(p.Terms.PreferApart) > 0
	if s.theirs = s.own || !pl.IgnorePreferred; !s.theirs {
		return nil, true
	}
	if !s.own && v.Affine == 0 {
		return s, false
	}
	for _, n := range v.Nodes {
		if n.Node == nil {
			continue
		}
		pods := n.Affine
		if s.own {
			pods = n.Pods
		}
		for _, other := range pods {
			s.follow(pl, p, other, n, 1, nil)
		}
	}
	return s, false
}

func (s *scoreState) follow(pl Plugin, p, other *framework.Pod, n *framework.Node, sign int64, marks *framework.Marks) {
	if s.own {
		namespace := s.view.Namespaces[other.Namespace]
		s.weigh(p.Terms.PreferNear, other, namespace, n, sign, marks)
		s.weigh(p.Terms.PreferApart, other, namespace, n, -sign, marks)
	}
	if !other.Terms.Any() {
		return
	}
	if pl.Hard > 0 {
		for i := range other.Terms.Near {
			if t := &other.Terms.Near[i]; t.Selects(p, s.namespace) {
				s.add(t.Key, n, sign*pl.Hard, marks)
			}
		}
	}
	s.weigh(other.Terms.PreferNear, p, s.namespace, n, sign, marks)
	s.weigh(other.Terms.PreferApart, p, s.namespace, n, -sign, marks)
}

// weigh adds the weights of those terms that select a pod to the domains that n is in.
func (s *scoreState) weigh(terms []framework.Term, selected *framework.Pod, namespace labels.Set, n *framework.Node, sign int64, marks *framework.Marks) {
	for i := range terms {
		if terms[i].Selects(selected, namespace) {
			s.add(terms[i].Key, n, sign*terms[i].Weight, marks)
		}
	}
}

func (s *scoreState) add(key string, n *framework.Node, weight int64, marks *framework.Marks) {
	w := s.worthBy(key)
	d := w.domains.At(n)
	if d < 0 {
		return
	}
	for int(d) >= len(w.of) {
		w.of = append(w.of, 0)
	}
	w.of[d] += weight
	marks.Domain(w.domains, d)
}

func (s *scoreState) worthBy(key string) *worth {
	for i := range s.sums {
		if s.sums[i].domains.Key == key {
			return &s.sums[i]
		}
	}
	s.sums = append(s.sums, worth{domains: s.view.DomainsOf(key)})
	return &s.sums[len(s.sums)-1]
}

// Score implements framework.Score.
func (Plugin) Score(state any, _ *framework.Pod, n *framework.Node) (sum int64) {
	s := state.(*scoreState)
	for i := range s.sums {
		if d := s.sums[i].domains.At(n); d >= 0 && int(d) < len(s.sums[i].of) {
			sum += s.sums[i].of[d]
		}
	}
	return sum
}

// Normalize implements framework.Normalize: the least is worth nothing, the greatest all.
func (Plugin) Normalize(_ any, raw, least, greatest int64) int64 {
	if greatest == least {
		return 0
	}
	return int64(float64(framework.MaxScore) * (float64(raw-least) / float64(greatest-least)))
}
