package volumebinding

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/scheduler/framework"
)

var (
	noVolume  = framework.No(framework.Unresolvable, name, "node(s) didn't find available persistent volumes to bind")
	elsewhere = framework.No(framework.Unresolvable, name, "node(s) didn't match PersistentVolume's node affinity")
	noSpace   = framework.No(framework.Unresolvable, name, "node(s) did not have enough free storage")
	lost      = framework.No(framework.Unresolvable, name, "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")
)

// Writer is how decisions about volumes reach the API.
type Writer interface {
	UpdateVolume(ctx context.Context, v *corev1.PersistentVolume) error
	UpdateClaim(ctx context.Context, c *corev1.PersistentVolumeClaim) error
	Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
}

// Plugin is VolumeBinding.
type Plugin struct {
	Writer Writer
	// Patience is how long claims may take to be bound once a node is chosen; 10 min.
	Patience time.Duration
}

// Name implements framework.Plugin.
func (*Plugin) Name() string { return name }

// state is a pod's claims, and what would be done about them on each node.
type state struct {
	storage *framework.Storage
	claims
	plans  map[int]plan // by row
	chosen plan
}

// plan is what is to be done about the waiting claims.
type plan struct {
	bind   []binding
	create []*corev1.PersistentVolumeClaim // by the driver, once they name the node
}

type binding struct {
	volume *corev1.PersistentVolume
	claim  *corev1.PersistentVolumeClaim
}

// PreFilter implements framework.PreFilter.
func (*Plugin) PreFilter(v *framework.View, p *framework.Pod) framework.Prepared {
	c, why := claimsOf(v.Storage, p)
	if why != "" {
		return framework.Prepared{No: framework.No(framework.Unresolvable, name, why)}
	}
	if len(c.bound)+len(c.waiting) == 0 {
		return framework.Prepared{Skip: true}
	}
	return framework.Prepared{State: &state{storage: v.Storage, claims: c, plans: map[int]plan{}}}
}

// Filter implements framework.Filter.
func (*Plugin) Filter(of any, _ *framework.Pod, n *framework.Node) *framework.Status {
	s := of.(*state)
	for _, c := range s.bound {
		v := s.storage.Volume(c.Spec.VolumeName)
		if v == nil {
			return lost
		}
		if !reaches(v, n.Node) {
			return elsewhere
		}
	}
	var todo plan
	taken := map[string]bool{}
	for _, c := range s.waiting {
		if at, ok := c.Annotations[selectedNode]; ok {
			if at != n.Name {
				return noVolume
			}
			todo.create = append(todo.create, c)
			continue
		}
		of := s.storage.OfClass(classOf(c))
		v := match(c, of, n.Node, taken)
		if v == nil {
			todo.create = append(todo.create, c)
			continue
		}
		taken[v.Name] = true
		todo.bind = append(todo.bind, binding{v, c})
	}
	for _, c := range todo.create {
		if no := s.canCreate(c, n); no != nil {
			return no
		}
	}
	s.plans[n.Row] = todo
	return nil
}

// canCreate says why no driver can make a volume for a claim that the node reaches.
func (s *state) canCreate(c *corev1.PersistentVolumeClaim, n *framework.Node) *framework.Status {
	class := s.storage.Classes[classOf(c)]
	if class == nil || class.Provisioner == "" || class.Provisioner == noProvisioner || !allowed(class.AllowedTopologies, n) {
		return noVolume
	}
	driver := s.storage.Drivers[class.Provisioner]
	if driver == nil || driver.Spec.StorageCapacity == nil || !*driver.Spec.StorageCapacity {
		return nil
	}
	size := c.Spec.Resources.Requests[corev1.ResourceStorage]
	for _, room := range s.storage.Capacities {
		if room.StorageClassName != class.Name || room.NodeTopology == nil {
			continue
		}
		limit := room.Capacity
		if room.MaximumVolumeSize != nil {
			limit = room.MaximumVolumeSize
		}
		if limit == nil || limit.Cmp(size) < 0 {
			continue
		}
		if sel, err := metav1.LabelSelectorAsSelector(room.NodeTopology); err == nil && sel.Matches(labels.Set(n.Labels)) {
			return nil
		}
	}
	return noSpace
}

// allowed says whether a node is in one of a class's topologies.
func allowed(terms []corev1.TopologySelectorTerm, n *framework.Node) bool {
	if len(terms) == 0 {
		return true
	}
	for _, t := range terms {
		all := true
		for _, e := range t.MatchLabelExpressions {
			value, ok := n.Labels[e.Key]
			found := false
			for _, v := range e.Values {
				found = found || ok && v == value
			}
			all = all && found
		}
		if all {
			return true
		}
	}
	return false
}

// Reserve implements framework.Reserve: no other pod gets the volumes.
func (*Plugin) Reserve(_ *framework.View, of any, _ *framework.Pod, n *framework.Node) *framework.Status {
	s := of.(*state)
	for _, b := range s.plans[n.Row].bind {
		v := given(b.volume, b.claim)
		s.storage.AssumeVolume(v)
		s.chosen.bind = append(s.chosen.bind, binding{v, b.claim})
	}
	for _, c := range s.plans[n.Row].create {
		c = c.DeepCopy()
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, selectedNode, n.Name)
		s.storage.AssumeClaim(c)
		s.chosen.create = append(s.chosen.create, c)
	}
	return nil
}

// Unreserve implements framework.Reserve.
func (*Plugin) Unreserve(_ *framework.View, of any, _ *framework.Pod, _ string) {
	s := of.(*state)
	for _, b := range s.chosen.bind {
		s.storage.ForgetVolume(b.volume.Name)
	}
	for _, c := range s.chosen.create {
		s.storage.ForgetClaim(c.Namespace, c.Name)
	}
}

// Waits implements framework.PreBind.
func (*Plugin) Waits(of any) bool { return len(of.(*state).waiting) > 0 }

// PreBind implements framework.PreBind: it writes the decision and waits until all claims are bound.
func (pl *Plugin) PreBind(ctx context.Context, of any, _ *framework.Pod, node string) error {
	s := of.(*state)
	ctx, cancel := context.WithTimeout(ctx, pl.Patience)
	defer cancel()
	for _, b := range s.chosen.bind {
		if err := pl.Writer.UpdateVolume(ctx, b.volume); err != nil {
			return fmt.Errorf("bind volume %s to claim %s/%s: %w", b.volume.Name, b.claim.Namespace, b.claim.Name, err)
		}
	}
	for _, c := range s.chosen.create {
		if err := pl.Writer.UpdateClaim(ctx, c); err != nil {
			return fmt.Errorf("choose node %s for claim %s/%s: %w", node, c.Namespace, c.Name, err)
		}
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := pl.allBound(ctx, s, node)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the volumes on node %s: %w", node, ctx.Err())
		case <-tick.C:
		}
	}
}

func (pl *Plugin) allBound(ctx context.Context, s *state, node string) (bool, error) {
	for _, c := range s.waiting {
		now, err := pl.Writer.Claim(ctx, c.Namespace, c.Name)
		if err != nil {
			return false, fmt.Errorf("look at claim %s/%s: %w", c.Namespace, c.Name, err)
		}
		if complete(now) {
			continue
		}
		for _, mine := range s.chosen.create {
			if mine.UID == now.UID && now.Annotations[selectedNode] != node {
				return false, fmt.Errorf("provisioning failed for PVC %q: its driver wants another node", c.Name)
			}
		}
		return false, nil
	}
	return true, nil
}

// Heeds implements framework.Wakes.
func (*Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged, framework.StorageChanged)
}

// Helps implements framework.Wakes.
func (*Plugin) Helps(p *framework.Pod, c framework.Change) bool {
	switch o := c.Object.(type) {
	case *corev1.PersistentVolumeClaim:
		return Uses(p, o)
	case *storagev1.CSINode:
		return false
	}
	return true
}

// Uses says whether a claim is one of the pod's.
func Uses(p *framework.Pod, c *corev1.PersistentVolumeClaim) bool {
	for i := range p.Spec.Volumes {
		if p.Namespace == c.Namespace && ClaimName(p, &p.Spec.Volumes[i]) == c.Name {
			return true
		}
	}
	return false
}
