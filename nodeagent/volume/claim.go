package volume

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Claims looks up what claims are bound to.
type Claims interface {
	Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	Volume(ctx context.Context, name string) (*corev1.PersistentVolume, error)
	NodeLabels() map[string]string
}

// ClaimName is the claim that a volume of the pod stands for; empty if it stands for none.
func ClaimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}

// resolve follows a claim to the volume that it is bound to.
func (s *Set) resolve(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (Request, error) {
	r := Request{Pod: pod, Volume: v}
	name := ClaimName(pod, v)
	if name == "" || s.claims == nil {
		return r, nil
	}
	claim, err := s.claims.Claim(ctx, pod.Namespace, name)
	if err != nil {
		return r, fmt.Errorf("claim %s/%s: %w", pod.Namespace, name, err)
	}
	if v.Ephemeral != nil && !metav1.IsControlledBy(claim, pod) {
		return r, fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", pod.Namespace, name, pod.Namespace, pod.Name)
	}
	if claim.Status.Phase != corev1.ClaimBound || claim.Spec.VolumeName == "" {
		return r, fmt.Errorf("PVC %s/%s is not bound", pod.Namespace, name)
	}
	r.Block = claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock
	pv, err := s.claims.Volume(ctx, claim.Spec.VolumeName)
	if err != nil {
		return r, fmt.Errorf("volume %s of claim %s/%s: %w", claim.Spec.VolumeName, pod.Namespace, name, err)
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.UID != claim.UID {
		return r, fmt.Errorf("volume %s is not bound to claim %s/%s", pv.Name, pod.Namespace, name)
	}
	if err := reachable(pv, s.claims.NodeLabels()); err != nil {
		return r, fmt.Errorf("volume %s cannot be used on this node: %w", pv.Name, err)
	}
	if r.Block && pv.Spec.CSI == nil && pv.Spec.Local == nil {
		return r, fmt.Errorf("volume %s of PVC %s/%s is no block device: those are of type csi or local", pv.Name, pod.Namespace, name)
	}
	r.PV, r.Claim = pv, claim
	r.ReadOnly = v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly || onlyRead(pv.Spec.AccessModes)
	r.Volume = &corev1.Volume{Name: v.Name, VolumeSource: corev1.VolumeSource{HostPath: pv.Spec.HostPath, NFS: pv.Spec.NFS}}
	return r, nil
}

// reachable checks the labels of this node against what the volume asks of a node.
func reachable(pv *corev1.PersistentVolume, labels map[string]string) error {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return nil
	}
	wanted, err := nodeaffinity.NewNodeSelector(pv.Spec.NodeAffinity.Required)
	if err != nil {
		return err
	}
	if !wanted.Match(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: labels}}) {
		return errors.New("no matching NodeSelectorTerms")
	}
	return nil
}

func onlyRead(modes []corev1.PersistentVolumeAccessMode) bool {
	for _, m := range modes {
		if m != corev1.ReadOnlyMany {
			return false
		}
	}
	return len(modes) > 0
}
