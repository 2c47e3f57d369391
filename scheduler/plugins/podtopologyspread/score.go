package podtopologyspread

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/scheduler/framework"
)

func labelsOf(p *framework.Pod) labels.Set { return p.Labels }

// scoreState is the soft constraints of a pod, each with its counts.
type scoreState struct {
	view   *framework.View
	needs  bool // nodes without all topology keys are left out
	wishes []wish
}

// wish is a soft constraint with the number of selected pods in each domain. When the domain is the single node, all
// pods there count; else only those on nodes that count.
type wish struct {
	constraint
	single  bool
	counted []bool  // by row
	pods    []int32 // by domain
	weight  float64 // grows with the number of domains, so that few large ones do not outweigh many small ones
}

// PreScore implements framework.PreScore.
func (pl *Plugin) PreScore(v *framework.View, p *framework.Pod) (any, bool) {
	constraints, err := pl.read(v, p, corev1.ScheduleAnyway)
	if err != nil || len(constraints) == 0 { // one that cannot be read has been refused before
		return nil, true
	}
	s := &scoreState{view: v, needs: len(p.Spec.TopologySpreadConstraints) > 0 || !pl.system, wishes: make([]wish, len(constraints))}
	for i := range constraints {
		s.wishes[i] = wish{constraint: constraints[i], single: constraints[i].domains.Key == corev1.LabelHostname, counted: make([]bool, len(v.Nodes))}
	}
	for _, n := range v.Nodes {
		if n.Node == nil {
			continue
		}
		all := !s.needs || s.inAll(n)
		for i := range s.wishes {
			s.wishes[i].take(p, n, all)
		}
	}
	return s, false
}

func (s *scoreState) inAll(n *framework.Node) bool {
	return inAll(n, func(i int) *framework.Domains { return s.wishes[i].domains }, len(s.wishes))
}

// take counts the pods on a node.
func (w *wish) take(p *framework.Pod, n *framework.Node, all bool) {
	w.counted[n.Row] = w.single || all && w.countsNode(p, n)
	if !w.counted[n.Row] || w.domains.At(n) < 0 {
		return
	}
	for _, other := range n.Pods {
		if w.selects(p, other) {
			w.add(n, 1)
		}
	}
}

func (w *wish) add(n *framework.Node, sign int32) int32 {
	d := w.domains.At(n)
	for int(d) >= len(w.pods) {
		w.pods = append(w.pods, 0)
	}
	w.pods[d] += sign
	return d
}

func (s *scoreState) follow(p, other *framework.Pod, n *framework.Node, sign int32, marks *framework.Marks) {
	for i := range s.wishes {
		w := &s.wishes[i]
		if n.Row < len(w.counted) && w.counted[n.Row] && w.domains.At(n) >= 0 && w.selects(p, other) {
			marks.Domain(w.domains, w.add(n, sign))
		}
	}
}

// Among implements framework.Among: the weights go by the number of domains among the nodes that will do.
func (*Plugin) Among(state any, _ *framework.Pod, feasible func(yield func(row int) bool)) (changed bool) {
	s := state.(*scoreState)
	sizes, nodes := make([]int, len(s.wishes)), 0
	seen := make([][]bool, len(s.wishes))
	lacking := make([]bool, len(s.wishes)) // nodes without the label are a domain, too
	for row := range feasible {
		n := s.view.Nodes[row]
		if s.needs && !s.inAll(n) {
			continue
		}
		nodes++
		for i := range s.wishes {
			d := s.wishes[i].domains.At(n)
			switch {
			case d < 0 && !lacking[i]:
				lacking[i] = true
				sizes[i]++
			case d >= 0:
				for int(d) >= len(seen[i]) {
					seen[i] = append(seen[i], false)
				}
				if !seen[i][d] {
					seen[i][d] = true
					sizes[i]++
				}
			}
		}
	}
	for i := range s.wishes {
		if s.wishes[i].single {
			sizes[i] = nodes
		}
		weight := math.Log(float64(sizes[i] + 2))
		changed = changed || weight != s.wishes[i].weight
		s.wishes[i].weight = weight
	}
	return changed
}

// Score implements framework.Score: the more pods of the kind, the more.
func (*Plugin) Score(state any, _ *framework.Pod, n *framework.Node) int64 {
	s := state.(*scoreState)
	if s.needs && !s.inAll(n) {
		return framework.Ignored
	}
	sum := 0.0
	for i := range s.wishes {
		w := &s.wishes[i]
		d := w.domains.At(n)
		if d < 0 {
			continue
		}
		pods := int32(0)
		if int(d) < len(w.pods) {
			pods = w.pods[d]
		}
		sum += float64(pods)*w.weight + float64(w.skew-1)
	}
	return int64(math.Round(sum))
}

// Normalize implements framework.Normalize: the fewer the better.
func (*Plugin) Normalize(_ any, raw, least, greatest int64) int64 {
	if greatest == 0 {
		return framework.MaxScore
	}
	return framework.MaxScore * (greatest + least - raw) / greatest
}
