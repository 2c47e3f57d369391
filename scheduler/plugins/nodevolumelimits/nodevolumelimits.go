// Package nodevolumelimits refuses nodes to which a CSI driver cannot attach as many volumes more as a pod needs.
package nodevolumelimits

import "hardway/scheduler/framework"

const name = "NodeVolumeLimits"

var full = framework.No(framework.Unschedulable, name, "node(s) exceed max volume count")

// Plugin is NodeVolumeLimits.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// state is the volumes that a pod needs, by what identifies each, with its driver.
type state struct {
	storage *framework.Storage
	needs   map[string]string
}

// PreFilter implements framework.PreFilter.
func (Plugin) PreFilter(v *framework.View, p *framework.Pod) framework.Prepared {
	s := &state{storage: v.Storage, needs: map[string]string{}}
	s.collect(p, s.needs)
	return framework.Prepared{State: s, Skip: len(s.needs) == 0}
}

// collect adds the CSI volumes of a pod.
func (s *state) collect(p *framework.Pod, to map[string]string) {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		claim := ""
		switch {
		case v.PersistentVolumeClaim != nil:
			claim = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			claim = p.Name + "-" + v.Name
		default:
			continue
		}
		if driver, id := s.identify(p.Namespace, claim); driver != "" {
			to[id] = driver
		}
	}
}

// identify returns the driver of a claim and what tells its volume from others; no driver when it is not a CSI volume.
func (s *state) identify(namespace, name string) (driver, id string) {
	c := s.storage.Claim(namespace, name)
	if c == nil {
		return "", ""
	}
	if v := s.storage.Volume(c.Spec.VolumeName); v != nil {
		if v.Spec.CSI == nil {
			return "", ""
		}
		return v.Spec.CSI.Driver, v.Spec.CSI.Driver + "/" + v.Spec.CSI.VolumeHandle
	}
	class := s.storage.Classes[framework.ClassOfClaim(c)]
	if class == nil || s.storage.Drivers[class.Provisioner] == nil {
		return "", ""
	}
	return class.Provisioner, class.Provisioner + "/" + namespace + "/" + name
}

// Filter implements framework.Filter.
func (Plugin) Filter(of any, _ *framework.Pod, n *framework.Node) *framework.Status {
	s := of.(*state)
	node := s.storage.Nodes[n.Name]
	if node == nil {
		return nil // which drivers it has is not known yet
	}
	there := map[string]string{}
	for _, other := range n.Pods {
		s.collect(other, there)
	}
	for i := range node.Spec.Drivers {
		d := &node.Spec.Drivers[i]
		if d.Allocatable == nil || d.Allocatable.Count == nil {
			continue
		}
		used, more := 0, 0
		for _, driver := range there {
			if driver == d.Name {
				used++
			}
		}
		for id, driver := range s.needs {
			if _, shared := there[id]; driver == d.Name && !shared {
				more++
			}
		}
		if more > 0 && used+more > int(*d.Allocatable.Count) {
			return full
		}
	}
	return nil
}

// Heeds implements framework.Wakes.
func (Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.PodGone, framework.StorageChanged)
}

// Helps implements framework.Wakes: room appears where a pod with volumes leaves, or a driver tells of more.
func (Plugin) Helps(_ *framework.Pod, c framework.Change) bool {
	if c.What != framework.PodGone {
		return true
	}
	for i := range c.Pod.Spec.Volumes {
		if v := &c.Pod.Spec.Volumes[i]; v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			return true
		}
	}
	return false
}
