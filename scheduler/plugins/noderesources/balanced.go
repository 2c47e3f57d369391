package noderesources

import (
	"math"

	schedulerv1 "k8s.io/kube-scheduler/config/v1"

	"hardway/scheduler/framework"
)

// BalancedAllocation is NodeResourcesBalancedAllocation. Make it with NewBalanced.
type BalancedAllocation struct{ allocation }

// NewBalanced makes the plugin.
func NewBalanced(columns *framework.Columns, args *schedulerv1.NodeResourcesBalancedAllocationArgs) *BalancedAllocation {
	return &BalancedAllocation{allocation{columns: columns, specs: args.Resources}}
}

// Name implements framework.Plugin.
func (*BalancedAllocation) Name() string { return "NodeResourcesBalancedAllocation" }

// PreScore implements framework.PreScore: a pod without requests changes no balance.
func (b *BalancedAllocation) PreScore(_ *framework.View, p *framework.Pod) (state any, skip bool) {
	wanted := b.wanted(p, p.Requests)
	for _, w := range wanted {
		if w.amount != 0 {
			return wanted, false
		}
	}
	return nil, true
}

// Score implements framework.Score: 75 when the pod leaves the balance as it is, up to 100 when it mends it, down to 50
// when it spoils it.
func (b *BalancedAllocation) Score(state any, _ *framework.Pod, n *framework.Node) int64 {
	const half = framework.MaxScore / 2
	wanted := state.([]want)
	return half + (half+balance(wanted, n, 1)-balance(wanted, n, 0))/2
}

// balance is 100 less the standard deviation, in percent, of the shares that are used. The pod counts times with.
func balance(wanted []want, n *framework.Node, with int64) int64 {
	var shares [8]float64
	used, sum := shares[:0], 0.0
	for _, w := range wanted {
		limit := n.Allocatable.At(w.column)
		if limit == 0 {
			continue
		}
		share := min(1, float64(n.Requested.At(w.column)+with*w.amount)/float64(limit))
		used = append(used, share)
		sum += share
	}
	deviation := 0.0
	switch len(used) {
	case 0, 1:
	case 2:
		deviation = math.Abs((used[0] - used[1]) / 2)
	default:
		mean, squares := sum/float64(len(used)), 0.0
		for _, share := range used {
			squares += (share - mean) * (share - mean)
		}
		deviation = math.Sqrt(squares / float64(len(used)))
	}
	return int64((1 - deviation) * framework.MaxScore)
}

// DefaultBalancedArgs are what upstream defaults to.
func DefaultBalancedArgs() *schedulerv1.NodeResourcesBalancedAllocationArgs {
	return &schedulerv1.NodeResourcesBalancedAllocationArgs{Resources: CPUAndMemory()}
}
