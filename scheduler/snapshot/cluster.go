// Package snapshot keeps the cluster as scheduling sees it: a row for each node, with what the pods on it take. It is
// changed in place by what the API tells and by decisions that have been taken but not yet confirmed (assumed), and
// every change is noted in a journal, so that conclusions can be kept and mended instead of drawn anew. It is used by
// one goroutine.
package snapshot

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"hardway/scheduler/framework"
)

// Cluster is the nodes and their pods. Make it with New.
type Cluster struct {
	View    *framework.View
	Columns *framework.Columns
	Journal Journal

	byName   map[string]*framework.Node
	free     []int // rows that stand for nothing
	pods     map[types.UID]placed
	promised map[types.UID]string // nominated pods: on which node
	assumed  int
}

// placed is a pod on its node, as it was added.
type placed struct {
	pod     *framework.Pod
	row     *framework.Node
	assumed bool
}

// New is an empty cluster.
func New() *Cluster {
	return &Cluster{
		View: framework.NewView(), Columns: framework.NewColumns(), byName: map[string]*framework.Node{},
		pods: map[types.UID]placed{}, promised: map[types.UID]string{},
	}
}

// Node returns the row of a node that is known by name, or nil.
func (c *Cluster) Node(name string) *framework.Node { return c.byName[name] }

// SetNode records a node. It returns its row, the node as it was (nil for a new one), and whether anything changed that
// scheduling reads.
func (c *Cluster) SetNode(node *corev1.Node) (row *framework.Node, old *corev1.Node, changed bool) {
	row = c.row(node.Name)
	old = row.Node
	moved := old == nil || !admitsAlike(old, node)
	images := old == nil || !slices.EqualFunc(old.Status.Images, node.Status.Images, sameImage)
	changed = moved || images || !offersAlike(old, node)
	if old == nil {
		c.View.Known++
	}
	row.Node = node
	if !changed {
		return row, old, false
	}
	row.Allocatable = c.Columns.Vector(node.Status.Allocatable)
	if images {
		c.setImages(row, node.Status.Images)
	}
	c.nodeChanged(row, moved)
	return row, old, true
}

// admitsAlike says that two states of a node stand in the same domains and admit the same pods.
func admitsAlike(a, b *corev1.Node) bool {
	return a.Spec.Unschedulable == b.Spec.Unschedulable && maps.Equal(a.Labels, b.Labels) &&
		slices.EqualFunc(a.Spec.Taints, b.Spec.Taints, func(x, y corev1.Taint) bool { return x.MatchTaint(&y) && x.Value == y.Value })
}

// offersAlike says that two states of a node have the same to offer.
func offersAlike(a, b *corev1.Node) bool {
	return maps.EqualFunc(a.Status.Allocatable, b.Status.Allocatable, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 }) &&
		slices.Equal(a.Status.DeclaredFeatures, b.Status.DeclaredFeatures)
}

func sameImage(a, b corev1.ContainerImage) bool {
	return a.SizeBytes == b.SizeBytes && slices.Equal(a.Names, b.Names)
}

// setImages counts on how many nodes each image is.
func (c *Cluster) setImages(row *framework.Node, images []corev1.ContainerImage) {
	for name := range row.Images {
		if c.View.Images[name]--; c.View.Images[name] == 0 {
			delete(c.View.Images, name)
		}
	}
	row.Images = make(map[string]int64, len(images))
	for _, image := range images {
		for _, name := range image.Names {
			if _, twice := row.Images[name]; !twice {
				c.View.Images[name]++
			}
			row.Images[name] = image.SizeBytes
		}
	}
}

// RemoveNode forgets a node. Its row stays while pods are on it.
func (c *Cluster) RemoveNode(name string) {
	row := c.byName[name]
	if row == nil || row.Node == nil {
		return
	}
	c.setImages(row, nil)
	row.Node, row.Allocatable = nil, nil
	c.View.Known--
	c.nodeChanged(row, true)
	c.dropIfEmpty(row)
}

func (c *Cluster) nodeChanged(row *framework.Node, moved bool) {
	if moved {
		for _, d := range c.View.Domains {
			d.Place(row)
		}
	}
	e := Event{Row: row.Row, Moved: moved}
	if moved {
		e.Sign = 1
	}
	c.Journal.add(e)
}

// SetPod records that the API says pod is on its node, or that it changed there. An assumption about it ends. It returns
// what was known of it before; old is nil when it was not on a node.
func (c *Cluster) SetPod(pod *corev1.Pod) (now, old *framework.Pod) {
	p, known := c.pods[pod.UID]
	if known && p.row.Name == pod.Spec.NodeName && framework.Alike(p.pod.Pod, pod) {
		now = p.pod.With(pod)
		p.row.Replace(p.pod, now)
		c.pods[pod.UID] = placed{pod: now, row: p.row}
		if p.assumed {
			c.assumed--
		}
		return now, p.pod
	}
	now = framework.NewPod(pod, c.Columns)
	c.RemovePod(pod.UID)
	c.put(now, pod.Spec.NodeName, false)
	return now, p.pod
}

// Assume records a decision before the API knows it.
func (c *Cluster) Assume(pod *framework.Pod, node string) {
	c.RemovePod(pod.UID)
	c.put(pod, node, true)
}

// Forget undoes Assume, and says whether there was something to undo. What the API has confirmed meanwhile stays.
func (c *Cluster) Forget(uid types.UID) bool {
	if !c.pods[uid].assumed {
		return false
	}
	c.RemovePod(uid)
	return true
}

// Size is how many nodes and pods on nodes there are, and how many of these are assumed.
func (c *Cluster) Size() (nodes, pods, assumed int) { return c.View.Known, len(c.pods), c.assumed }

// Has says whether a pod is on a node, assumed or confirmed.
func (c *Cluster) Has(uid types.UID) bool {
	_, ok := c.pods[uid]
	return ok
}

// PodsOn are the pods on a node.
func (c *Cluster) PodsOn(node string) []*framework.Pod {
	if row := c.byName[node]; row != nil {
		return row.Pods
	}
	return nil
}

// RemovePod takes a pod off its node and returns it; nil when it is on none.
func (c *Cluster) RemovePod(uid types.UID) *framework.Pod {
	p, ok := c.pods[uid]
	if !ok {
		return nil
	}
	delete(c.pods, uid)
	if p.assumed {
		c.assumed--
	}
	p.row.Remove(p.pod)
	c.count(p.pod, -1)
	c.Journal.add(Event{Row: p.row.Row, Pod: p.pod, Sign: -1})
	c.dropIfEmpty(p.row)
	return p.pod
}

func (c *Cluster) put(pod *framework.Pod, node string, assumed bool) {
	row := c.row(node)
	row.Add(pod)
	c.pods[pod.UID] = placed{pod: pod, row: row, assumed: assumed}
	if assumed {
		c.assumed++
	}
	c.count(pod, 1)
	c.Journal.add(Event{Row: row.Row, Pod: pod, Sign: 1})
}

func (c *Cluster) count(pod *framework.Pod, sign int) {
	if c.View.Ranks[pod.Priority] += sign; c.View.Ranks[pod.Priority] == 0 {
		delete(c.View.Ranks, pod.Priority)
	}
	if !pod.Terms.Any() {
		return
	}
	c.View.Affine += sign
	if len(pod.Terms.Apart) > 0 {
		c.View.Repelling += sign
	}
}

// Promise records that a pod without a node has been promised one; with "" it ends the promise.
func (c *Cluster) Promise(pod *framework.Pod, node string) {
	if at := c.promised[pod.UID]; at != "" {
		delete(c.promised, pod.UID)
		if row := c.byName[at]; row != nil {
			left := slices.DeleteFunc(c.View.Nominated[row.Row], func(p *framework.Pod) bool { return p.UID == pod.UID })
			if c.View.Nominated[row.Row] = left; len(left) == 0 {
				delete(c.View.Nominated, row.Row)
			}
			c.dropIfEmpty(row)
		}
	}
	if node != "" {
		row := c.row(node)
		c.promised[pod.UID] = node
		c.View.Nominated[row.Row] = append(c.View.Nominated[row.Row], pod)
	}
}

// Promised is the node that a pod has been promised, or "".
func (c *Cluster) Promised(uid types.UID) string { return c.promised[uid] }

// SetNamespace records the labels of a namespace.
func (c *Cluster) SetNamespace(name string, set labels.Set) {
	if old, known := c.View.Namespaces[name]; !known || !maps.Equal(old, set) {
		c.View.Namespaces[name] = set
		c.namespacesChanged()
	}
}

// RemoveNamespace forgets a namespace.
func (c *Cluster) RemoveNamespace(name string) {
	delete(c.View.Namespaces, name)
	c.namespacesChanged()
}

// namespacesChanged drops all conclusions if some may have been drawn from the labels of namespaces.
func (c *Cluster) namespacesChanged() {
	if c.Columns.Keys.Namespaces {
		c.Journal.forget()
	}
}

func (c *Cluster) row(name string) *framework.Node {
	if row := c.byName[name]; row != nil {
		return row
	}
	row := &framework.Node{Name: name}
	if n := len(c.free); n > 0 {
		row.Row = c.free[n-1]
		c.free = c.free[:n-1]
		c.View.Nodes[row.Row] = row
	} else {
		row.Row = len(c.View.Nodes)
		c.View.Nodes = append(c.View.Nodes, row)
	}
	c.byName[name] = row
	c.nodeChanged(row, true)
	return row
}

// dropIfEmpty gives a row back that stands for nothing any more.
func (c *Cluster) dropIfEmpty(row *framework.Node) {
	if row.Node != nil || len(row.Pods) > 0 || len(c.View.Nominated[row.Row]) > 0 {
		return
	}
	delete(c.byName, row.Name)
	c.free = append(c.free, row.Row)
}
