package framework

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Node is a row of the cluster: a node's limits and what its pods take of them. Plugins only read it.
type Node struct {
	*corev1.Node        // nil while only pods of it are known
	Name         string // also while Node is nil
	Row          int    // its place in View.Nodes

	Allocatable Vector
	Requested   Vector // sum over its pods; Requested[Pods] counts them
	Weight      Vector // the same as ranking counts it
	Ports       []HostPort
	Pods        []*Pod
	Affine      []*Pod           // those of Pods that have affinity terms of any kind
	Images      map[string]int64 // size by name
	Claims      map[string]int   // pods that use a volume claim, by namespace/name
}

// Free is what is left of a column.
func (n *Node) Free(column int) int64 { return n.Allocatable.At(column) - n.Requested.At(column) }

// Add puts a pod on the node; Remove takes it off again.
func (n *Node) Add(p *Pod) {
	n.Requested, n.Weight = n.Requested.Add(p.Requests, 1), n.Weight.Add(p.Weight, 1)
	n.Ports = append(n.Ports, p.Ports...)
	n.Pods = append(n.Pods, p)
	if p.Terms.Any() {
		n.Affine = append(n.Affine, p)
	}
	n.claim(p, 1)
}

// Remove takes a pod off the node that Add put there.
func (n *Node) Remove(p *Pod) {
	n.Requested, n.Weight = n.Requested.Add(p.Requests, -1), n.Weight.Add(p.Weight, -1)
	for _, port := range p.Ports {
		if i := slices.Index(n.Ports, port); i >= 0 {
			n.Ports = slices.Delete(n.Ports, i, i+1)
		}
	}
	n.Pods = drop(n.Pods, p)
	if p.Terms.Any() {
		n.Affine = drop(n.Affine, p)
	}
	n.claim(p, -1)
}

// Replace puts now in the place of old, which differs in nothing that is counted here.
func (n *Node) Replace(old, now *Pod) {
	for _, list := range [][]*Pod{n.Pods, n.Affine} {
		if i := slices.Index(list, old); i >= 0 {
			list[i] = now
		}
	}
}

func (n *Node) claim(p *Pod, sign int) {
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		if n.Claims == nil {
			n.Claims = map[string]int{}
		}
		key := p.Namespace + "/" + v.PersistentVolumeClaim.ClaimName
		if n.Claims[key] += sign; n.Claims[key] <= 0 {
			delete(n.Claims, key)
		}
	}
}

func drop(pods []*Pod, p *Pod) []*Pod {
	i := slices.Index(pods, p)
	if i < 0 {
		return pods
	}
	last := len(pods) - 1
	pods[i], pods[last] = pods[last], nil
	return pods[:last]
}

// Clone is a copy to try things out on: adding and removing pods does not touch n.
func (n *Node) Clone() *Node {
	c := *n
	c.Requested, c.Weight, c.Ports = slices.Clone(n.Requested), slices.Clone(n.Weight), slices.Clone(n.Ports)
	c.Pods, c.Affine = slices.Clone(n.Pods), slices.Clone(n.Affine)
	if n.Claims != nil {
		c.Claims = make(map[string]int, len(n.Claims))
		for k, v := range n.Claims {
			c.Claims[k] = v
		}
	}
	return &c
}
