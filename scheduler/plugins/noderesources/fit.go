// Package noderesources compares what pods request with what nodes have: Fit refuses nodes with too little left and
// prefers those with more; BalancedAllocation prefers nodes whose CPU and memory are used alike.
package noderesources

import (
	"fmt"
	"strings"

	"hardway/scheduler/framework"
)

const fitName = "NodeResourcesFit"

// Fit is NodeResourcesFit with the LeastAllocated strategy over CPU and memory. Make it with NewFit.
type Fit struct {
	columns *framework.Columns
	reasons map[string]*framework.Status // one Status for each sentence
}

// NewFit makes the plugin. It has one user at a time, as the scheduling loop is.
func NewFit(columns *framework.Columns) *Fit {
	return &Fit{columns: columns, reasons: map[string]*framework.Status{}}
}

// Name implements framework.Plugin.
func (*Fit) Name() string { return fitName }

// Filter implements framework.Filter. All resources that do not fit are named, one to a line.
func (f *Fit) Filter(_ *framework.State, p *framework.Pod, n *framework.Node) *framework.Status {
	var short []string
	resolvable := true
	for c, wanted := range p.Requests {
		if wanted == 0 || wanted <= n.Free(c) {
			continue
		}
		if c == framework.Pods {
			short = append(short, "Too many pods")
		} else {
			short = append(short, fmt.Sprintf("Insufficient %s", f.columns.Name(c)))
		}
		resolvable = resolvable && wanted <= n.Allocatable.At(c)
	}
	if short == nil {
		return nil
	}
	return f.status(strings.Join(short, "\n"), resolvable)
}

// status returns the same value for the same words. A request above what a node has at all cannot be helped by
// removing pods.
func (f *Fit) status(reason string, resolvable bool) *framework.Status {
	code := framework.Unresolvable
	if resolvable {
		code = framework.Unschedulable
	}
	key := fmt.Sprint(code, reason)
	if f.reasons[key] == nil {
		f.reasons[key] = &framework.Status{Code: code, Plugin: fitName, Reason: reason}
	}
	return f.reasons[key]
}

// Score implements framework.Score: the mean share of CPU and memory that would be left.
func (*Fit) Score(_ *framework.State, p *framework.Pod, n *framework.Node) int64 {
	sum, kinds := int64(0), int64(0)
	for _, c := range [...]int{framework.CPU, framework.Memory} {
		limit := n.Allocatable.At(c)
		if limit == 0 {
			continue
		}
		kinds++
		if used := n.Weight.At(c) + p.Weight.At(c); used <= limit {
			sum += (limit - used) * framework.MaxScore / limit
		}
	}
	if kinds == 0 {
		return 0
	}
	return sum / kinds
}

// Helps implements framework.Wakes: room appears where a pod leaves, or a node comes or grows.
func (f *Fit) Helps(p *framework.Pod, c framework.Change) bool {
	if c.What != framework.PodGone {
		return f.Filter(nil, p, c.Node) == nil
	}
	for column, wanted := range p.Requests {
		if wanted > 0 && c.Pod.Requests.At(column) > 0 {
			return true
		}
	}
	return false
}
