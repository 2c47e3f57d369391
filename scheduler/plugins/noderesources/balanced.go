package noderesources

import (
	"math"

	"hardway/scheduler/framework"
)

// BalancedAllocation is NodeResourcesBalancedAllocation over CPU and memory.
type BalancedAllocation struct{}

// Name implements framework.Plugin.
func (BalancedAllocation) Name() string { return "NodeResourcesBalancedAllocation" }

// PreScore implements framework.PreScore: a pod without requests changes no balance.
func (BalancedAllocation) PreScore(_ *framework.State, p *framework.Pod) (skip bool) {
	return p.Requests.At(framework.CPU) == 0 && p.Requests.At(framework.Memory) == 0
}

// Score implements framework.Score: 75 when the pod leaves the balance as it is, up to 100 when it mends it, down to 50
// when it spoils it.
func (BalancedAllocation) Score(_ *framework.State, p *framework.Pod, n *framework.Node) int64 {
	const half = framework.MaxScore / 2
	before := balance(n.Requested, nil, n.Allocatable)
	after := balance(n.Requested, p.Requests, n.Allocatable)
	return half + (half+after-before)/2
}

// balance is 100 when CPU and memory are used in the same proportion, 50 when one is full and the other empty.
func balance(used, more, limit framework.Vector) int64 {
	share := func(c int) (float64, bool) {
		if limit.At(c) == 0 {
			return 0, false
		}
		return min(1, float64(used.At(c)+more.At(c))/float64(limit.At(c))), true
	}
	cpu, hasCPU := share(framework.CPU)
	memory, hasMemory := share(framework.Memory)
	if !hasCPU || !hasMemory {
		return framework.MaxScore
	}
	return int64((1 - math.Abs(cpu-memory)/2) * framework.MaxScore)
}
