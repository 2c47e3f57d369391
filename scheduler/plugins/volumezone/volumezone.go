// Package volumezone refuses nodes in another zone or region than the volumes of a pod.
package volumezone

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"hardway/scheduler/framework"
)

const name = "VolumeZone"

var otherZone = framework.No(framework.Unresolvable, name, "node(s) had no available volume zone")

// modern is the present name of each label.
var modern = map[string]string{
	corev1.LabelFailureDomainBetaZone: corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
	corev1.LabelTopologyZone: corev1.LabelTopologyZone, corev1.LabelTopologyRegion: corev1.LabelTopologyRegion,
}

// Plugin is VolumeZone.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// place is a label of a volume with its values.
type place struct {
	key    string
	values []string
}

// PreFilter implements framework.PreFilter. Claims without a volume are VolumeBinding's matter.
func (Plugin) PreFilter(v *framework.View, p *framework.Pod) framework.Prepared {
	var places []place
	for i := range p.Spec.Volumes {
		of := p.Spec.Volumes[i].PersistentVolumeClaim
		if of == nil {
			continue
		}
		claim := v.Storage.Claim(p.Namespace, of.ClaimName)
		if claim == nil || claim.Spec.VolumeName == "" {
			continue
		}
		volume := v.Storage.Volume(claim.Spec.VolumeName)
		if volume == nil {
			continue
		}
		for key := range modern {
			if value, ok := volume.Labels[key]; ok {
				places = append(places, place{key, strings.Split(value, "__")}) // a volume in several zones
			}
		}
	}
	return framework.Prepared{State: places, Skip: len(places) == 0}
}

// Filter implements framework.Filter. Nodes without any such label are let through: a cluster in one place has none.
func (Plugin) Filter(state any, _ *framework.Pod, n *framework.Node) *framework.Status {
	placed := false
	for key := range modern {
		_, ok := n.Labels[key]
		placed = placed || ok
	}
	if !placed {
		return nil
	}
	for _, at := range state.([]place) {
		value, ok := n.Labels[at.key]
		if !ok {
			value, ok = n.Labels[modern[at.key]]
		}
		found := false
		for _, v := range at.values {
			found = found || ok && v == value
		}
		if !found {
			return otherZone
		}
	}
	return nil
}

// Heeds implements framework.Wakes.
func (Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged, framework.StorageChanged)
}

// Helps implements framework.Wakes.
func (Plugin) Helps(*framework.Pod, framework.Change) bool { return true }
