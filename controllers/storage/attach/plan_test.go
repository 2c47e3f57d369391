package attach

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func volume(modes ...corev1.PersistentVolumeAccessMode) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{AccessModes: modes,
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d.example", VolumeHandle: "h"}}}}
}

func node(ready bool, inUse ...corev1.UniqueVolumeName) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{VolumesInUse: inUse}}
	if ready {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	}
	return n
}

func TestPlan(t *testing.T) {
	once, many := volume(corev1.ReadWriteOnce), volume(corev1.ReadWriteMany)
	used := nameOf(once)
	out := node(false, used)
	out.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}
	here := &storagev1.VolumeAttachment{}
	going := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}}
	broken := &storagev1.VolumeAttachment{Status: storagev1.VolumeAttachmentStatus{AttachError: &storagev1.VolumeError{Message: "no"}}}
	elsewhere := []*storagev1.VolumeAttachment{{}}
	pods := []*corev1.Pod{{}}
	for _, tt := range []struct {
		name string
		f    facts
		want step
	}{
		{"wanted", facts{volume: once, node: node(true), pods: pods}, attach},
		{"wanted and there", facts{volume: once, node: node(true), pods: pods, here: here}, nothing},
		{"wanted again while it goes", facts{volume: once, node: node(true), pods: pods, here: going}, nothing},
		{"the driver cannot", facts{volume: once, node: node(true), pods: pods, here: broken}, failed},
		{"another node has it", facts{volume: once, node: node(true), pods: pods, others: elsewhere}, refuse},
		{"another node has it, too", facts{volume: many, node: node(true), pods: pods, others: elsewhere}, attach},
		{"its driver attaches nothing", facts{volume: once, node: node(true), pods: pods, driver: &storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{AttachRequired: new(false)}}}, nothing},
		{"the node is gone", facts{volume: once, pods: pods}, nothing},
		{"not wanted", facts{volume: once, node: node(true), here: here}, detach},
		{"not wanted, on its way out", facts{volume: once, node: node(true), here: going}, nothing},
		{"not wanted, but in use", facts{volume: once, node: node(true, used), here: here, force: true, since: time.Hour}, waitForNode},
		{"in use by a silent node", facts{volume: once, node: node(false, used), here: here, force: true, since: patience - 1}, waitForNode},
		{"in use by a node that was silent for long", facts{volume: once, node: node(false, used), here: here, force: true, since: patience}, detach},
		{"the same, but never by force", facts{volume: once, node: node(false, used), here: here, since: time.Hour}, waitForNode},
		{"in use by a node out of service", facts{volume: once, node: out, here: here}, detach},
		{"in use by a node that is gone", facts{volume: once, here: here}, detach},
		{"the volume is gone", facts{node: node(true), here: here}, detach},
	} {
		if got := plan(tt.f); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestNamesAreUpstreams(t *testing.T) {
	v := volume()
	if got := nameOf(v); got != "kubernetes.io/csi/d.example^h" {
		t.Error(got)
	}
	// printf 'hd.examplen' | sha256sum: handle, driver, node
	if got := attachmentName(v, "n"); got != "csi-c9bcba1d279a5fa4fd20367ba087d6e8df4e8a5e822d1104a6acc787250602ba" {
		t.Error(got)
	}
}

// What other people attach is theirs.
func TestVolumeOf(t *testing.T) {
	volume := "pv"
	for name, want := range map[string]string{
		attachmentName(&corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{VolumeHandle: "h", Driver: "d"}}}}, "n"): "pv",
		"csi-mine": "", "by-hand": "",
	} {
		a := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.VolumeAttachmentSpec{Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume}}}
		if got := volumeOf(a); got != want {
			t.Errorf("%s: volume %q, want %q", name, got, want)
		}
	}
}
