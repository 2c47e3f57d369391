package framework

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Node is a row of the cluster: a node's limits and what its pods take of them. Plugins only read it.
type Node struct {
	*corev1.Node        // nil while only pods of it are known
	Name         string // also while Node is nil

	Allocatable Vector
	Requested   Vector // sum over its pods; Requested[Pods] counts them
	Weight      Vector // the same as ranking counts it
	Ports       []HostPort

	// Generation changes, to a number never used before, whenever anything here changes.
	Generation uint64
}

// Free is what is left of a column.
func (n *Node) Free(column int) int64 { return n.Allocatable.At(column) - n.Requested.At(column) }

// Add puts a pod on the node; Remove takes it off again.
func (n *Node) Add(p *Pod) {
	n.Requested, n.Weight = n.Requested.Add(p.Requests, 1), n.Weight.Add(p.Weight, 1)
	n.Ports = append(n.Ports, p.Ports...)
}

// Remove takes a pod off the node that Add put there.
func (n *Node) Remove(p *Pod) {
	n.Requested, n.Weight = n.Requested.Add(p.Requests, -1), n.Weight.Add(p.Weight, -1)
	for _, port := range p.Ports {
		if i := slices.Index(n.Ports, port); i >= 0 {
			n.Ports = slices.Delete(n.Ports, i, i+1)
		}
	}
}
