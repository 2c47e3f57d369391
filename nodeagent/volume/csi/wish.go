package csi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"hardway/nodeagent/volume"
)

// wish is one volume of a pod as a driver needs to know it.
type wish struct {
	driver, handle, fsType string
	name                   string // of the PersistentVolume, or of the volume in the pod
	lifecycle              storagev1.VolumeLifecycleMode
	block, readOnly        bool
	attributes             map[string]string
	modes                  []corev1.PersistentVolumeAccessMode
	options                []string
	stageSecret            *corev1.SecretReference
	publishSecret          *corev1.SecretReference
	expandSecret           *corev1.SecretReference

	about *storagev1.CSIDriver // nil: the driver has said nothing about itself
}

// newWish reads what the claim's volume, or the pod, says.
func newWish(r volume.Request) wish {
	if r.PV == nil {
		source := r.Volume.CSI
		w := wish{
			driver: source.Driver, handle: inlineHandle(r), name: r.Volume.Name, lifecycle: storagev1.VolumeLifecycleEphemeral,
			attributes: source.VolumeAttributes, readOnly: source.ReadOnly != nil && *source.ReadOnly,
		}
		if source.FSType != nil {
			w.fsType = *source.FSType
		}
		if s := source.NodePublishSecretRef; s != nil {
			w.publishSecret = &corev1.SecretReference{Namespace: r.Pod.Namespace, Name: s.Name}
		}
		return w
	}
	source := r.PV.Spec.CSI
	return wish{
		driver: source.Driver, handle: source.VolumeHandle, fsType: source.FSType, name: r.PV.Name,
		lifecycle: storagev1.VolumeLifecyclePersistent, block: r.Block, readOnly: r.ReadOnly, attributes: source.VolumeAttributes,
		modes: r.PV.Spec.AccessModes, options: r.PV.Spec.MountOptions, stageSecret: source.NodeStageSecretRef,
		publishSecret: source.NodePublishSecretRef, expandSecret: source.NodeExpandSecretRef,
	}
}

// inlineHandle names a volume that has no name of its own, as upstream does.
func inlineHandle(r volume.Request) string {
	sum := sha256.Sum256([]byte(string(r.Pod.UID) + r.Volume.Name))
	return "csi-" + hex.EncodeToString(sum[:])
}

// allowed refuses a use that the driver is not made for. A driver that says nothing about itself takes claims only.
func (w wish) allowed() error {
	switch {
	case w.about == nil && w.lifecycle == storagev1.VolumeLifecyclePersistent:
		return nil
	case w.about == nil:
		return fmt.Errorf("volume mode %q not supported by driver %s (no CSIDriver object)", w.lifecycle, w.driver)
	case slices.Contains(w.about.Spec.VolumeLifecycleModes, w.lifecycle):
		return nil
	}
	return fmt.Errorf("volume mode %q not supported by driver %s (only supports %q)", w.lifecycle, w.driver, w.about.Spec.VolumeLifecycleModes)
}

// attachable says whether the cluster attaches the volume to nodes.
func (w wish) attachable() bool {
	return w.lifecycle == storagev1.VolumeLifecyclePersistent &&
		(w.about == nil || w.about.Spec.AttachRequired == nil || *w.about.Spec.AttachRequired)
}

// exclusive says whether only one pod may have the volume.
func (w wish) exclusive() bool { return slices.Contains(w.modes, corev1.ReadWriteOncePod) }

func (w wish) republished() bool {
	return w.about != nil && w.about.Spec.RequiresRepublish != nil && *w.about.Spec.RequiresRepublish
}

func (w wish) tokenRequests() []storagev1.TokenRequest {
	if w.about == nil {
		return nil
	}
	return w.about.Spec.TokenRequests
}

func (w wish) tokensAreSecret() bool {
	return w.about != nil && w.about.Spec.ServiceAccountTokenInSecrets != nil && *w.about.Spec.ServiceAccountTokenInSecrets
}

// podInfo are the attributes by which a driver that asks for them learns which pod it serves.
func (w wish) podInfo(pod *corev1.Pod) map[string]string {
	if w.about == nil || w.about.Spec.PodInfoOnMount == nil || !*w.about.Spec.PodInfoOnMount {
		return nil
	}
	return map[string]string{
		"csi.storage.k8s.io/pod.name": pod.Name, "csi.storage.k8s.io/pod.namespace": pod.Namespace, "csi.storage.k8s.io/pod.uid": string(pod.UID),
		"csi.storage.k8s.io/serviceAccount.name": pod.Spec.ServiceAccountName,
		"csi.storage.k8s.io/ephemeral":           strconv.FormatBool(w.lifecycle == storagev1.VolumeLifecycleEphemeral),
	}
}

// tokensKey is where a driver finds the tokens that it has asked for: a JSON object by audience.
const tokensKey = "csi.storage.k8s.io/serviceAccount.tokens"

// issued is one of them.
type issued struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expirationTimestamp"`
}

func tokenAttribute(tokens map[string]issued) (map[string]string, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(tokens)
	return map[string]string{tokensKey: string(text)}, err
}

// owned says whether the node gives the files of the volume to the pod's fsGroup.
func (w wish) owned(group *int64) bool {
	if group == nil || w.readOnly || w.block {
		return false
	}
	policy := storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy
	if w.about != nil && w.about.Spec.FSGroupPolicy != nil {
		policy = *w.about.Spec.FSGroupPolicy
	}
	switch policy {
	case storagev1.NoneFSGroupPolicy:
		return false
	case storagev1.FileFSGroupPolicy:
		return true
	}
	alone := w.lifecycle == storagev1.VolumeLifecycleEphemeral || slices.Contains(w.modes, corev1.ReadWriteOnce) || w.exclusive()
	return w.fsType != "" && alone
}

// capability says how the volume is used. group is the fsGroup where the driver sees to it.
func (w wish) capability(d *driver, group *int64) *csi.VolumeCapability {
	out := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: w.accessMode(d)}}
	if w.block {
		out.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		return out
	}
	m := &csi.VolumeCapability_MountVolume{FsType: w.fsType, MountFlags: w.options}
	if group != nil && d.can[csi.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP] {
		m.VolumeMountGroup = strconv.FormatInt(*group, 10)
	}
	out.AccessType = &csi.VolumeCapability_Mount{Mount: m}
	return out
}

// accessMode is the first of the volume's modes, in CSI's words; drivers that tell several pods of a node from one are
// told which it is.
func (w wish) accessMode(d *driver) csi.VolumeCapability_AccessMode_Mode {
	mode := corev1.ReadWriteOnce
	if len(w.modes) > 0 {
		mode = w.modes[0]
	}
	precise := d.can[csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER]
	switch {
	case mode == corev1.ReadOnlyMany:
		return csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	case mode == corev1.ReadWriteMany:
		return csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	case mode == corev1.ReadWriteOncePod && precise:
		return csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	case precise:
		return csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
	}
	return csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
}

// AttachmentName is that of the only VolumeAttachment for a volume and a node.
func AttachmentName(handle, driver, node string) string {
	sum := sha256.Sum256([]byte(handle + driver + node))
	return "csi-" + hex.EncodeToString(sum[:])
}

// merge joins maps; later ones win.
func merge(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}
