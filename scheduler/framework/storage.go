package framework

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// Storage is the volumes, claims and classes of the cluster, by name, or namespace/name. The loop owns it, as it owns
// the View it belongs to.
type Storage struct {
	Claims     map[string]*corev1.PersistentVolumeClaim
	Volumes    map[string]*corev1.PersistentVolume
	Classes    map[string]*storagev1.StorageClass
	Drivers    map[string]*storagev1.CSIDriver
	Nodes      map[string]*storagev1.CSINode
	Capacities map[string]*storagev1.CSIStorageCapacity

	// limited is how many nodes tell a limit of volumes for a driver.
	limited map[string]int

	// What has been decided and is not yet confirmed, laid over the above.
	claims  map[string]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
}

// NewStorage is empty.
func NewStorage() *Storage {
	return &Storage{
		Claims: map[string]*corev1.PersistentVolumeClaim{}, Volumes: map[string]*corev1.PersistentVolume{}, Classes: map[string]*storagev1.StorageClass{},
		Drivers: map[string]*storagev1.CSIDriver{}, Nodes: map[string]*storagev1.CSINode{}, Capacities: map[string]*storagev1.CSIStorageCapacity{},
		claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{}, limited: map[string]int{},
	}
}

// SetNode takes note of what the drivers of a node tell of it; nil: it is gone.
func (s *Storage) SetNode(name string, n *storagev1.CSINode) {
	s.limits(s.Nodes[name], -1)
	if s.limits(n, 1); n == nil {
		delete(s.Nodes, name)
	} else {
		s.Nodes[name] = n
	}
}

func (s *Storage) limits(n *storagev1.CSINode, by int) {
	if n == nil {
		return
	}
	for i := range n.Spec.Drivers {
		if d := &n.Spec.Drivers[i]; d.Allocatable != nil && d.Allocatable.Count != nil {
			s.limited[d.Name] += by
		}
	}
}

// Free says that the volumes of a pod have nothing to say about where it goes: each claim has its volume, which every node reaches, of
// which nodes take as many as there may be, and which others may use.
func (s *Storage) Free(p *Pod) bool {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if !personal(v) {
			continue
		}
		if v.PersistentVolumeClaim == nil || !s.freeClaim(s.Claim(p.Namespace, v.PersistentVolumeClaim.ClaimName)) {
			return false
		}
	}
	return true
}

func (s *Storage) freeClaim(c *corev1.PersistentVolumeClaim) bool {
	if c == nil || c.DeletionTimestamp != nil || c.Status.Phase == corev1.ClaimLost || c.Annotations[BindCompleted] == "" ||
		slices.Contains(c.Spec.AccessModes, corev1.ReadWriteOncePod) {
		return false
	}
	v := s.Volume(c.Spec.VolumeName)
	if v == nil || v.Spec.NodeAffinity != nil || v.Spec.CSI != nil && s.limited[v.Spec.CSI.Driver] > 0 {
		return false
	}
	for key := range v.Labels {
		if slices.Contains(zoneLabels, key) {
			return false
		}
	}
	return true
}

// BindCompleted is the annotation of a claim that has its volume.
const BindCompleted = "pv.kubernetes.io/bind-completed"

// zoneLabels tell where a volume is.
var zoneLabels = []string{
	corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
}

// Claim is a claim as decided, or as the API has it; nil: there is none.
func (s *Storage) Claim(namespace, name string) *corev1.PersistentVolumeClaim {
	key := namespace + "/" + name
	real := s.Claims[key]
	if c := s.claims[key]; c != nil && real != nil && c.ResourceVersion == real.ResourceVersion {
		return c
	}
	return real
}

// Volume is a volume as decided, or as the API has it; nil: there is none.
func (s *Storage) Volume(name string) *corev1.PersistentVolume {
	real := s.Volumes[name]
	if v := s.volumes[name]; v != nil && real != nil && v.ResourceVersion == real.ResourceVersion {
		return v
	}
	return real
}

// OfClass are the volumes of a class.
func (s *Storage) OfClass(class string) (out []*corev1.PersistentVolume) {
	for name, v := range s.Volumes {
		if classOfVolume(v) == class {
			out = append(out, s.Volume(name))
		}
	}
	return out
}

// AssumeVolume and AssumeClaim record decisions; they hold until the API has a newer state, or are forgotten.
func (s *Storage) AssumeVolume(v *corev1.PersistentVolume) { s.volumes[v.Name] = v }

// AssumeClaim is like AssumeVolume.
func (s *Storage) AssumeClaim(c *corev1.PersistentVolumeClaim) { s.claims[c.Namespace+"/"+c.Name] = c }

// ForgetVolume takes an assumption back.
func (s *Storage) ForgetVolume(name string) { delete(s.volumes, name) }

// ForgetClaim takes an assumption back.
func (s *Storage) ForgetClaim(namespace, name string) { delete(s.claims, namespace+"/"+name) }

// ClassOfClaim is the name of a claim's class, or "".
func ClassOfClaim(c *corev1.PersistentVolumeClaim) string {
	if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName
	}
	return ""
}

func classOfVolume(v *corev1.PersistentVolume) string {
	if class, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	return v.Spec.StorageClassName
}
