package binder

import (
	"context"
	"fmt"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/client"
)

// reserve writes the claim into the volume.
func reserve(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) {
	v.Spec.ClaimRef = &corev1.ObjectReference{
		APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion,
	}
}

// bind makes a volume and a claim each other's, in four writes that may each be the last: the volume names the claim,
// says Bound, the claim names the volume, says Bound. What is done already is not done again.
func (c *Controller) bind(ctx context.Context, v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	var err error
	if ref := v.Spec.ClaimRef; ref == nil || ref.UID != claim.UID {
		v = v.DeepCopy()
		if ref == nil {
			metav1.SetMetaDataAnnotation(&v.ObjectMeta, boundByController, "yes")
		}
		reserve(v, claim)
		name := v.Name
		if v, err = client.PersistentVolumes.Update(ctx, c.env.API, v); err != nil {
			return fmt.Errorf("give volume %s to claim %s/%s: %w", name, claim.Namespace, claim.Name, err)
		}
	}
	if v, err = c.setPhase(ctx, v, corev1.VolumeBound, ""); err != nil {
		return err
	}
	if _, complete := claim.Annotations[bindCompleted]; !complete || claim.Spec.VolumeName == "" {
		claim = claim.DeepCopy()
		if claim.Spec.VolumeName == "" {
			metav1.SetMetaDataAnnotation(&claim.ObjectMeta, boundByController, "yes")
			claim.Spec.VolumeName = v.Name
		}
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, bindCompleted, "yes")
		name := claim.Name
		if claim, err = client.PersistentVolumeClaims.Update(ctx, c.env.API, claim); err != nil {
			return fmt.Errorf("give claim %s its volume %s: %w", name, v.Name, err)
		}
		c.log.Info("bound claim", zap.String("namespace", claim.Namespace), zap.String("name", claim.Name), zap.String("volume", v.Name))
	}
	if claim.Status.Phase == corev1.ClaimBound && len(claim.Status.Capacity) > 0 && len(claim.Status.AccessModes) > 0 {
		return nil
	}
	status := claim.Status.DeepCopy()
	status.Phase, status.AccessModes, status.Capacity = corev1.ClaimBound, v.Spec.AccessModes, v.Spec.Capacity
	status.CurrentVolumeAttributesClassName = v.Spec.VolumeAttributesClassName
	return c.setClaimStatus(ctx, claim, *status)
}

func (c *Controller) setClaimStatus(ctx context.Context, claim *corev1.PersistentVolumeClaim, status corev1.PersistentVolumeClaimStatus) error {
	out := *claim
	out.Status = status
	if _, err := client.PersistentVolumeClaims.Update(ctx, c.env.API, &out, "status"); err != nil {
		return fmt.Errorf("write status of claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

// setPhase writes a volume's phase, unless it has it.
func (c *Controller) setPhase(ctx context.Context, v *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) (*corev1.PersistentVolume, error) {
	if v.Status.Phase == phase && v.Status.Message == message {
		return v, nil
	}
	out := *v
	out.Status.Phase, out.Status.Message = phase, message
	now, err := client.PersistentVolumes.Update(ctx, c.env.API, &out, "status")
	if err != nil {
		return nil, fmt.Errorf("write status of volume %s: %w", v.Name, err)
	}
	return now, nil
}
