package noderesources

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"

	"hardway/scheduler/framework"
)

// allocation ranks nodes by what would be allocated of some resources.
type allocation struct {
	columns *framework.Columns
	specs   []schedulerv1.ResourceSpec
	score   strategy
}

// strategy turns what would be used, of what there is, into a score, resource by resource, and then all into one.
type strategy struct {
	one func(used, limit int64) int64
	// positive leaves resources with a score of 0 out of the mean, and rounds it.
	positive bool
}

// want is one resource that is ranked by.
type want struct {
	column int
	weight int64
	amount int64 // what the pod adds
}

// wanted are the resources that count for a pod. Resources that nodes need not have count only if the pod wants them.
func (a *allocation) wanted(p *framework.Pod, requests framework.Vector) []want {
	out := make([]want, 0, len(a.specs))
	for _, s := range a.specs {
		w := want{column: a.columns.Column(corev1.ResourceName(s.Name)), weight: s.Weight}
		w.amount = requests.At(w.column)
		if w.column == framework.EphemeralStorage {
			w.amount = p.Requests.At(w.column)
		}
		if w.amount == 0 && w.column > framework.Pods {
			continue
		}
		out = append(out, w)
	}
	return out
}

// rank is the weighted mean over the resources that the node has. used is what its pods take of CPU and memory.
func (a *allocation) rank(wanted []want, n *framework.Node, used framework.Vector) int64 {
	sum, weights := int64(0), int64(0)
	for _, w := range wanted {
		limit := n.Allocatable.At(w.column)
		if limit == 0 {
			continue
		}
		taken := used.At(w.column)
		if w.column > framework.Memory {
			taken = n.Requested.At(w.column)
		}
		score := a.score.one(taken+w.amount, limit)
		if a.score.positive && score == 0 {
			continue
		}
		sum += score * w.weight
		weights += w.weight
	}
	switch {
	case weights == 0:
		return 0
	case a.score.positive:
		return int64(math.Round(float64(sum) / float64(weights)))
	default:
		return sum / weights
	}
}

func strategyOf(s *schedulerv1.ScoringStrategy) (strategy, error) {
	switch s.Type {
	case schedulerv1.LeastAllocated:
		return strategy{one: least}, nil
	case schedulerv1.MostAllocated:
		return strategy{one: most}, nil
	case schedulerv1.RequestedToCapacityRatio:
		if s.RequestedToCapacityRatio == nil || len(s.RequestedToCapacityRatio.Shape) == 0 {
			return strategy{}, fmt.Errorf("scoringStrategy.requestedToCapacityRatio.shape is missing")
		}
		return strategy{one: byShape(s.RequestedToCapacityRatio.Shape), positive: true}, nil
	default:
		return strategy{}, fmt.Errorf("scoringStrategy.type: %q is not known", s.Type)
	}
}

func least(used, limit int64) int64 {
	if used > limit {
		return 0
	}
	return (limit - used) * framework.MaxScore / limit
}

func most(used, limit int64) int64 { return min(used, limit) * framework.MaxScore / limit }

// byShape follows a line through points: utilization in percent, score from 0 to 10.
func byShape(points []schedulerv1.UtilizationShapePoint) func(used, limit int64) int64 {
	const scale = framework.MaxScore / schedulerv1MaxScore
	at := func(i int) (x, y int64) { return int64(points[i].Utilization), int64(points[i].Score) * scale }
	return func(used, limit int64) int64 {
		x := int64(100)
		if used <= limit {
			x = used * 100 / limit
		}
		for i := range points {
			right, high := at(i)
			if x > right {
				continue
			}
			if i == 0 {
				return high
			}
			left, low := at(i - 1)
			return low + (high-low)*(x-left)/(right-left)
		}
		_, last := at(len(points) - 1)
		return last
	}
}

// schedulerv1MaxScore is the greatest score of a point of a shape.
const schedulerv1MaxScore = 10
