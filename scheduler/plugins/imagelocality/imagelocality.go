// Package imagelocality prefers nodes that have a pod's images already. An image counts less the fewer nodes have it, so
// that pods do not all run to the one node that pulled it first.
package imagelocality

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"hardway/scheduler/framework"
)

// Below the floor images do not count; above the ceiling, for each container, more does not count more.
const (
	floor   = 23 << 20
	ceiling = 1000 << 20
)

// Plugin is ImageLocality.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return "ImageLocality" }

// state is the images of a pod, and on how many of all nodes each is.
type state struct {
	view       *framework.View
	images     []string
	containers int64
	nodes      int
	on         []int
}

// PreScore implements framework.PreScore.
func (Plugin) PreScore(v *framework.View, p *framework.Pod) (any, bool) {
	s := &state{view: v, containers: int64(len(p.Spec.InitContainers) + len(p.Spec.Containers))}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			s.images = append(s.images, tagged(list[i].Image))
		}
	}
	for i := range p.Spec.Volumes {
		if image := p.Spec.Volumes[i].Image; image != nil {
			s.images = append(s.images, tagged(image.Reference))
		}
	}
	s.on = make([]int, len(s.images))
	s.count()
	return s, len(s.images) == 0
}

// count looks up how many nodes have the images, and says whether that has changed in a way that matters.
func (s *state) count() (changed bool) {
	any := false
	for i, image := range s.images {
		on := s.view.Images[image]
		changed = changed || on != s.on[i]
		any = any || on > 0
		s.on[i] = on
	}
	changed = changed || any && s.nodes != s.view.Known
	s.nodes = s.view.Known
	return changed
}

// Follow implements framework.Follow.
func (Plugin) Follow(of any, _, other *framework.Pod, _ *framework.Node, _ int32, marks *framework.Marks) {
	if other == nil && of.(*state).count() {
		marks.Every()
	}
}

// Score implements framework.Score.
func (Plugin) Score(of any, _ *framework.Pod, n *framework.Node) int64 {
	s := of.(*state)
	sum := int64(0)
	for i, image := range s.images {
		if s.on[i] == 0 {
			continue
		}
		if size, ok := n.Images[image]; ok {
			sum += int64(float64(size) * (float64(s.on[i]) / float64(s.nodes)))
		}
	}
	most := ceiling * s.containers
	return framework.MaxScore * (min(max(sum, floor), most) - floor) / (most - floor)
}

// tagged is an image's name with the tag that it has when none is written.
func tagged(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		return name + ":latest"
	}
	return name
}
