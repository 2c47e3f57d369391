package framework

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Vector holds amounts of resources by Column: CPU in thousandths of a core, the rest in bytes or pieces. A column past
// its end is zero.
type Vector []int64

// At is the amount in a column.
func (v Vector) At(c int) int64 {
	if c < len(v) {
		return v[c]
	}
	return 0
}

// Add adds w, times sign, and returns the result, which may be v grown.
func (v Vector) Add(w Vector, sign int64) Vector {
	if len(w) > len(v) {
		v = append(v, make(Vector, len(w)-len(v))...)
	}
	for c, n := range w {
		v[c] += sign * n
	}
	return v
}

// The columns that every cluster has.
const (
	CPU = iota
	Memory
	EphemeralStorage
	Pods
	fixedColumns
)

// Columns gives each resource name a column, and knows which pod labels matter. It only grows: by the extended resources
// that nodes and pods name, and by the keys of selectors.
type Columns struct {
	names []corev1.ResourceName
	Keys  LabelKeys
}

// NewColumns knows the fixed columns.
func NewColumns() *Columns {
	return &Columns{names: []corev1.ResourceName{
		CPU: corev1.ResourceCPU, Memory: corev1.ResourceMemory, EphemeralStorage: corev1.ResourceEphemeralStorage, Pods: corev1.ResourcePods,
	}}
}

// Name is the resource in a column.
func (c *Columns) Name(column int) corev1.ResourceName { return c.names[column] }

// Vector turns a list into amounts, making columns for names not met before.
func (c *Columns) Vector(list corev1.ResourceList) Vector {
	v := make(Vector, fixedColumns, max(fixedColumns, len(list)))
	for name, q := range list {
		i := c.Column(name)
		for len(v) <= i {
			v = append(v, 0)
		}
		if i == CPU {
			v[i] = q.MilliValue()
		} else {
			v[i] = q.Value()
		}
	}
	return v
}

// Column is where a resource stands; it makes the column when there is none.
func (c *Columns) Column(name corev1.ResourceName) int {
	if i := slices.Index(c.names, name); i >= 0 {
		return i
	}
	c.names = append(c.names, name)
	return len(c.names) - 1
}
