package attach

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// patience is how long a node that does not answer may say that it uses a volume which no pod of it uses any more.
const patience = 6 * time.Minute

// facts are what there is to know about one volume on one node.
type facts struct {
	volume *corev1.PersistentVolume      // nil: gone
	driver *storagev1.CSIDriver          // nil: it has said nothing about itself
	node   *corev1.Node                  // nil: gone
	pods   []*corev1.Pod                 // on the node, that use the volume
	here   *storagev1.VolumeAttachment   // of this volume to this node
	others []*storagev1.VolumeAttachment // of this volume to other nodes
	since  time.Duration                 // for how long no pod has wanted it here
	force  bool                          // a node that does not answer is waited for only so long
}

// step is what is to be done next.
type step int

const (
	nothing step = iota
	attach
	refuse // another node has it and may not share it
	failed // the driver says why
	detach
	waitForNode // it says that it uses the volume
)

func plan(f facts) step {
	switch {
	case len(f.pods) > 0:
		return f.bring()
	case f.here == nil || f.here.DeletionTimestamp != nil:
		return nothing
	case f.mayGo():
		return detach
	}
	return waitForNode
}

// bring is for a volume that pods wait for.
func (f facts) bring() step {
	switch {
	case f.volume == nil || f.volume.Spec.CSI == nil || f.node == nil:
		return nothing
	case f.driver != nil && f.driver.Spec.AttachRequired != nil && !*f.driver.Spec.AttachRequired:
		return nothing
	case f.here != nil && f.here.DeletionTimestamp == nil && f.here.Status.AttachError != nil && !f.here.Status.Attached:
		return failed
	case f.here != nil: // about to be attached, attached, or on its way out, which is to end first
		return nothing
	case len(f.others) > 0 && !shareable(f.volume):
		return refuse
	}
	return attach
}

// mayGo says whether nothing on the node writes to the volume any more.
func (f facts) mayGo() bool {
	switch {
	case f.node == nil || f.volume == nil || f.volume.Spec.CSI == nil:
		return true
	case !slices.Contains(f.node.Status.VolumesInUse, nameOf(f.volume)):
		return true
	case outOfService(f.node):
		return true
	}
	return f.force && f.since >= patience && !healthy(f.node)
}

// shareable says whether several nodes may have a volume at once.
func shareable(v *corev1.PersistentVolume) bool {
	return slices.Contains(v.Spec.AccessModes, corev1.ReadWriteMany) || slices.Contains(v.Spec.AccessModes, corev1.ReadOnlyMany)
}

func outOfService(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

func healthy(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// nameOf is how nodes call a volume in their status.
func nameOf(v *corev1.PersistentVolume) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + v.Spec.CSI.Driver + "^" + v.Spec.CSI.VolumeHandle)
}

// attachmentName is that of the only VolumeAttachment for a volume and a node: upstream's, which is also where an upstream kubelet
// looks for it.
func attachmentName(v *corev1.PersistentVolume, node string) string {
	sum := sha256.Sum256([]byte(v.Spec.CSI.VolumeHandle + v.Spec.CSI.Driver + node))
	return "csi-" + hex.EncodeToString(sum[:])
}

// named tells whether a name is of that form.
func named(attachment string) bool {
	sum, ok := strings.CutPrefix(attachment, "csi-")
	return ok && len(sum) == 2*sha256.Size
}

func attachment(v *corev1.PersistentVolume, node string) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: attachmentName(v, node)},
		Spec:       storagev1.VolumeAttachmentSpec{Attacher: v.Spec.CSI.Driver, NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &v.Name}},
	}
}
