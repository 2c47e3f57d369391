// Package snapshot keeps the cluster as scheduling sees it: one row of numbers for each node, changed in place by what
// the watches report and by what the scheduler assumes.
//
// It has one owner, the scheduling loop, which applies changes between two cycles. So a cycle needs no copy: nothing
// changes while it runs. Every change gives the row a generation never used before, by which an evaluation knows what
// it has to look at again.
package snapshot

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"hardway/scheduler/framework"
)

// Cluster is the rows. Make it with New.
type Cluster struct {
	Columns *framework.Columns

	rows       []*framework.Node
	byName     map[string]*framework.Node
	pods       map[types.UID]placed
	generation uint64
	known      int // rows whose Node is known
}

type placed struct {
	pod     *framework.Pod
	node    string
	assumed bool // decided here, not yet reported by the API
}

// New is an empty cluster.
func New() *Cluster {
	return &Cluster{Columns: framework.NewColumns(), byName: map[string]*framework.Node{}, pods: map[types.UID]placed{}}
}

// Rows are all nodes, those too of which only pods are known (their Node is nil). Read only, until the next change.
func (c *Cluster) Rows() []*framework.Node { return c.rows }

// Nodes is how many rows stand for a known Node.
func (c *Cluster) Nodes() int { return c.known }

// SetNode adds a node or replaces what is known of it. Added says that it is new, changed that scheduling can tell the
// difference: a heartbeat is none.
func (c *Cluster) SetNode(node *corev1.Node) (row *framework.Node, added, changed bool) {
	row = c.row(node.Name)
	added = row.Node == nil
	if added {
		c.known++
	}
	changed = added || !alike(row.Node, node)
	row.Node = node
	if changed {
		row.Allocatable = c.Columns.Vector(node.Status.Allocatable)
		c.touch(row)
	}
	return row, added, changed
}

// alike says that scheduling cannot tell two states of a node apart.
func alike(a, b *corev1.Node) bool {
	return a.Spec.Unschedulable == b.Spec.Unschedulable &&
		slices.EqualFunc(a.Spec.Taints, b.Spec.Taints, func(x, y corev1.Taint) bool { return x.MatchTaint(&y) && x.Value == y.Value }) &&
		maps.Equal(a.Labels, b.Labels) &&
		maps.EqualFunc(a.Status.Allocatable, b.Status.Allocatable, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}

// RemoveNode forgets a node. Its row stays while pods are on it.
func (c *Cluster) RemoveNode(name string) {
	row := c.byName[name]
	if row == nil || row.Node == nil {
		return
	}
	row.Node, row.Allocatable = nil, nil
	c.known--
	c.touch(row)
	c.dropIfEmpty(row)
}

// SetPod records that the API says pod is on its node, or that it changed there. An assumption about it ends.
func (c *Cluster) SetPod(pod *framework.Pod) {
	c.RemovePod(pod.UID)
	c.put(placed{pod: pod, node: pod.Spec.NodeName})
}

// Assume records a decision before the API knows it.
func (c *Cluster) Assume(pod *framework.Pod, node string) {
	c.RemovePod(pod.UID)
	c.put(placed{pod: pod, node: node, assumed: true})
}

// Forget undoes Assume. What the API has confirmed meanwhile stays.
func (c *Cluster) Forget(uid types.UID) {
	if c.pods[uid].assumed {
		c.RemovePod(uid)
	}
}

// Has says whether a pod is on a node, assumed or confirmed.
func (c *Cluster) Has(uid types.UID) bool {
	_, ok := c.pods[uid]
	return ok
}

// RemovePod takes a pod off its node and returns it; nil when it is on none.
func (c *Cluster) RemovePod(uid types.UID) *framework.Pod {
	p, ok := c.pods[uid]
	if !ok {
		return nil
	}
	delete(c.pods, uid)
	row := c.byName[p.node]
	row.Remove(p.pod)
	c.touch(row)
	c.dropIfEmpty(row)
	return p.pod
}

func (c *Cluster) put(p placed) {
	row := c.row(p.node)
	row.Add(p.pod)
	c.pods[p.pod.UID] = p
	c.touch(row)
}

func (c *Cluster) row(name string) *framework.Node {
	row := c.byName[name]
	if row == nil {
		row = &framework.Node{Name: name}
		c.byName[name] = row
		c.rows = append(c.rows, row)
		c.touch(row)
	}
	return row
}

// dropIfEmpty removes a row that stands for nothing any more. The last row takes its place.
func (c *Cluster) dropIfEmpty(row *framework.Node) {
	if row.Node != nil || row.Requested.At(framework.Pods) > 0 {
		return
	}
	delete(c.byName, row.Name)
	i, last := slices.Index(c.rows, row), len(c.rows)-1
	c.rows[i], c.rows[last] = c.rows[last], nil
	c.rows = c.rows[:last]
}

func (c *Cluster) touch(row *framework.Node) {
	c.generation++
	row.Generation = c.generation
}
