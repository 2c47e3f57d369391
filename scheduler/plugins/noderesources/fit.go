// Package noderesources compares what pods request with what nodes have: Fit refuses nodes with too little left and
// prefers those with more, or with less, as it is configured; BalancedAllocation prefers nodes whose resources are used
// alike.
package noderesources

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"

	"hardway/scheduler/framework"
)

const fitName = "NodeResourcesFit"

// Fit is NodeResourcesFit. Make it with NewFit.
type Fit struct {
	columns       *framework.Columns
	ignored       []string // extended resources that do not count
	ignoredGroups []string // the same by what stands before the slash
	allocation

	reasons map[string]*framework.Status // one Status for each sentence
}

// NewFit makes the plugin. It has one user at a time, as the scheduling loop is.
func NewFit(columns *framework.Columns, args *schedulerv1.NodeResourcesFitArgs) (*Fit, error) {
	f := &Fit{columns: columns, ignored: args.IgnoredResources, ignoredGroups: args.IgnoredResourceGroups, reasons: map[string]*framework.Status{}}
	if args.ScoringStrategy == nil {
		return nil, fmt.Errorf("scoringStrategy is missing")
	}
	strategy, err := strategyOf(args.ScoringStrategy)
	if err != nil {
		return nil, err
	}
	f.allocation = allocation{columns: columns, specs: args.ScoringStrategy.Resources, score: strategy}
	return f, nil
}

// Name implements framework.Plugin.
func (*Fit) Name() string { return fitName }

// Filter implements framework.Filter. All resources that do not fit are named, one to a line.
func (f *Fit) Filter(_ any, p *framework.Pod, n *framework.Node) *framework.Status {
	var short []int
	resolvable := true
	for c, wanted := range p.Requests {
		if wanted == 0 || wanted <= n.Free(c) || f.ignores(c) {
			continue
		}
		short = append(short, c)
		resolvable = resolvable && (c == framework.Pods || wanted <= n.Allocatable.At(c))
	}
	if short == nil {
		return nil
	}
	return f.status(short, resolvable)
}

// Details says by how much each resource falls short.
func (f *Fit) Details(p *framework.Pod, n *framework.Node) (lines []string) {
	for c, wanted := range p.Requests {
		if wanted == 0 || wanted <= n.Free(c) || f.ignores(c) {
			continue
		}
		name := f.columns.Name(c)
		lines = append(lines, fmt.Sprintf("%s: wants %s, %s of %s is free, %s too little", name,
			f.amount(c, wanted), f.amount(c, n.Free(c)), f.amount(c, n.Allocatable.At(c)), f.amount(c, wanted-n.Free(c))))
	}
	return lines
}

// amount writes a number as the resource is usually written.
func (f *Fit) amount(column int, n int64) string {
	switch column {
	case framework.CPU:
		return resource.NewMilliQuantity(n, resource.DecimalSI).String()
	case framework.Memory, framework.EphemeralStorage:
		return resource.NewQuantity(n, resource.BinarySI).String()
	default:
		return fmt.Sprint(n)
	}
}

// ignores says whether a resource does not count. Only extended ones can be left out.
func (f *Fit) ignores(column int) bool {
	if len(f.ignored)+len(f.ignoredGroups) == 0 || column <= framework.Pods {
		return false
	}
	name := string(f.columns.Name(column))
	group, _, extended := strings.Cut(name, "/")
	return extended && (slices.Contains(f.ignored, name) || slices.Contains(f.ignoredGroups, group))
}

// status returns the same value for the same words. A request above what a node has at all cannot be helped by
// removing pods.
func (f *Fit) status(short []int, resolvable bool) *framework.Status {
	code := framework.Unresolvable
	if resolvable {
		code = framework.Unschedulable
	}
	key := fmt.Sprint(code, short)
	if f.reasons[key] == nil {
		lines := make([]string, len(short))
		for i, c := range short {
			if lines[i] = fmt.Sprintf("Insufficient %s", f.columns.Name(c)); c == framework.Pods {
				lines[i] = "Too many pods"
			}
		}
		f.reasons[key] = framework.No(code, fitName, strings.Join(lines, "\n"))
	}
	return f.reasons[key]
}

// PreScore implements framework.PreScore.
func (f *Fit) PreScore(_ *framework.View, p *framework.Pod) (state any, skip bool) {
	return f.wanted(p, p.Asks), false
}

// Score implements framework.Score.
func (f *Fit) Score(state any, _ *framework.Pod, n *framework.Node) int64 {
	return f.rank(state.([]want), n, n.Weight)
}

// Heeds implements framework.Wakes.
func (*Fit) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged, framework.PodGone, framework.PodChanged)
}

// Helps implements framework.Wakes: room appears where a pod leaves or shrinks, or a node comes or grows.
func (f *Fit) Helps(p *framework.Pod, c framework.Change) bool {
	switch c.What {
	case framework.NodeAdded:
		return f.Filter(nil, p, c.Node) == nil
	case framework.NodeChanged:
		return f.Filter(nil, p, c.Node) == nil && f.grew(p, c)
	case framework.PodGone:
		return f.frees(p, c.Pod.Requests, nil) && f.room(p, c.Node)
	case framework.PodChanged:
		return f.frees(p, c.OldPod.Requests, c.Pod.Requests) && f.room(p, c.Node)
	default:
		return false
	}
}

// room says whether the pod fits now where something has become free.
func (f *Fit) room(p *framework.Pod, n *framework.Node) bool {
	return n.Node != nil && f.Filter(nil, p, n) == nil
}

// grew says whether a node has more than before of something that the pod requests.
func (f *Fit) grew(p *framework.Pod, c framework.Change) bool {
	for column, wanted := range p.Requests {
		old := c.OldNode.Status.Allocatable[f.columns.Name(column)]
		before := old.Value()
		if column == framework.CPU {
			before = old.MilliValue()
		}
		if wanted > 0 && c.Node.Allocatable.At(column) > before {
			return true
		}
	}
	return false
}

// frees says whether less is taken than before of something that the pod requests.
func (f *Fit) frees(p *framework.Pod, before, after framework.Vector) bool {
	for column, wanted := range p.Requests {
		if wanted > 0 && before.At(column) > after.At(column) {
			return true
		}
	}
	return false
}

// DefaultFitArgs are what upstream defaults to.
func DefaultFitArgs() *schedulerv1.NodeResourcesFitArgs {
	return &schedulerv1.NodeResourcesFitArgs{ScoringStrategy: &schedulerv1.ScoringStrategy{Type: schedulerv1.LeastAllocated, Resources: CPUAndMemory()}}
}

// CPUAndMemory are the resources that are ranked by when nothing else is asked for.
func CPUAndMemory() []schedulerv1.ResourceSpec {
	return []schedulerv1.ResourceSpec{{Name: string(corev1.ResourceCPU), Weight: 1}, {Name: string(corev1.ResourceMemory), Weight: 1}}
}
