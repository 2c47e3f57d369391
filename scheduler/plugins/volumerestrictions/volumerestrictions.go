// Package volumerestrictions refuses nodes on which a disk of a pod is in use already in a way that it cannot share, and
// all nodes while a claim for one pod alone is in use.
package volumerestrictions

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"hardway/scheduler/framework"
)

const name = "VolumeRestrictions"

var (
	inUse = framework.No(framework.Unschedulable, name, "node(s) had no available disk")
	alone = framework.No(framework.Unschedulable, name, "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod")
)

// Plugin is VolumeRestrictions.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// state is the claims that only one pod may use, and how many pods use them.
type state struct {
	claims []string // by namespace/name
	users  int32
}

// PreFilter implements framework.PreFilter.
func (Plugin) PreFilter(v *framework.View, p *framework.Pod) framework.Prepared {
	s := &state{}
	disks := false
	for i := range p.Spec.Volumes {
		of := &p.Spec.Volumes[i]
		disks = disks || of.GCEPersistentDisk != nil || of.AWSElasticBlockStore != nil || of.RBD != nil || of.ISCSI != nil
		if of.PersistentVolumeClaim == nil {
			continue
		}
		claim := v.Storage.Claim(p.Namespace, of.PersistentVolumeClaim.ClaimName)
		if claim != nil && slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
			s.claims = append(s.claims, p.Namespace+"/"+claim.Name)
		}
	}
	if len(s.claims) == 0 {
		return framework.Prepared{State: s, Skip: !disks}
	}
	for _, n := range v.Nodes {
		for _, claim := range s.claims {
			s.users += int32(n.Claims[claim])
		}
	}
	return framework.Prepared{State: s}
}

// Follow implements framework.Follow.
func (Plugin) Follow(of any, _, other *framework.Pod, _ *framework.Node, sign int32, marks *framework.Marks) {
	s := of.(*state)
	if other == nil || len(s.claims) == 0 {
		return
	}
	for i := range other.Spec.Volumes {
		if c := other.Spec.Volumes[i].PersistentVolumeClaim; c != nil && slices.Contains(s.claims, other.Namespace+"/"+c.ClaimName) {
			s.users += sign
			marks.Every()
		}
	}
}

// Filter implements framework.Filter.
func (Plugin) Filter(of any, p *framework.Pod, n *framework.Node) *framework.Status {
	for i := range p.Spec.Volumes {
		for _, other := range n.Pods {
			for k := range other.Spec.Volumes {
				if clash(&p.Spec.Volumes[i], &other.Spec.Volumes[k]) {
					return inUse
				}
			}
		}
	}
	if of.(*state).users > 0 {
		return alone
	}
	return nil
}

// clash says whether two volumes are one disk that cannot be mounted twice on a node.
func clash(a, b *corev1.Volume) bool {
	switch {
	case a.GCEPersistentDisk != nil && b.GCEPersistentDisk != nil:
		return a.GCEPersistentDisk.PDName == b.GCEPersistentDisk.PDName && !(a.GCEPersistentDisk.ReadOnly && b.GCEPersistentDisk.ReadOnly)
	case a.AWSElasticBlockStore != nil && b.AWSElasticBlockStore != nil:
		return a.AWSElasticBlockStore.VolumeID == b.AWSElasticBlockStore.VolumeID
	case a.ISCSI != nil && b.ISCSI != nil:
		return a.ISCSI.IQN == b.ISCSI.IQN && !(a.ISCSI.ReadOnly && b.ISCSI.ReadOnly)
	case a.RBD != nil && b.RBD != nil:
		return a.RBD.RBDPool == b.RBD.RBDPool && a.RBD.RBDImage == b.RBD.RBDImage && !(a.RBD.ReadOnly && b.RBD.ReadOnly) &&
			slices.ContainsFunc(a.RBD.CephMonitors, func(m string) bool { return slices.Contains(b.RBD.CephMonitors, m) })
	default:
		return false
	}
}

// Heeds implements framework.Wakes.
func (Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.PodGone, framework.StorageChanged)
}

// Helps implements framework.Wakes.
func (Plugin) Helps(*framework.Pod, framework.Change) bool { return true }
