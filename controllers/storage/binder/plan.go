package binder

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// claimFacts is what there is to know about a claim.
type claimFacts struct {
	claim          *corev1.PersistentVolumeClaim
	class          *storagev1.StorageClass    // of the claim's class name, nil when there is none
	named          *corev1.PersistentVolume   // that the claim names, nil when there is none
	reserved, free []*corev1.PersistentVolume // that name the claim; that are of its class
	pod            string                     // one that uses the claim and has no node yet
}

// claimPlan is what is to be done for a claim: one of these, or nothing.
type claimPlan struct {
	bind      *corev1.PersistentVolume
	provision bool
	lost      bool
	// reason and message are an Event: why the claim is lost, or what it waits for.
	reason, message string
}

func wait(reason, format string, args ...any) claimPlan {
	return claimPlan{reason: reason, message: fmt.Sprintf(format, args...)}
}

func lose(reason, message string) claimPlan {
	return claimPlan{lost: true, reason: reason, message: message}
}

func planClaim(f claimFacts) claimPlan {
	c, v := f.claim, f.named
	_, complete := c.Annotations[bindCompleted]
	switch {
	case complete && c.Spec.VolumeName == "":
		return lose("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	case complete && v == nil:
		return lose("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case complete && v.Spec.ClaimRef != nil && !keptFor(v, c):
		return lose("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
	case complete:
		return claimPlan{bind: v}
	case c.DeletionTimestamp != nil:
		return claimPlan{}
	case c.Spec.VolumeName == "":
		return planUnnamed(f)
	case v == nil:
		return wait("FailedBinding", "volume %q does not exist", c.Spec.VolumeName)
	case keptFor(v, c):
		return claimPlan{bind: v}
	case v.Spec.ClaimRef != nil:
		return wait("FailedBinding", "volume %q already bound to a different claim.", v.Name)
	}
	if why := misfit(c, v); why != "" {
		return wait("VolumeMismatch", "Cannot bind to requested volume %q: %s", v.Name, why)
	}
	return claimPlan{bind: v}
}

// planUnnamed is for claims that take any volume.
func planUnnamed(f claimFacts) claimPlan {
	c := f.claim
	delayed := waitsForConsumer(f.class) && c.Annotations[selectedNode] == ""
	if v := choose(c, f.reserved, f.free, delayed); v != nil {
		return claimPlan{bind: v}
	}
	switch name := classOf(c); {
	case delayed && f.pod != "":
		return wait("WaitForPodScheduled", "waiting for pod %s to be scheduled", f.pod)
	case delayed:
		return wait("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	case name == "":
		return wait("FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	case f.class == nil:
		return wait("ProvisioningFailed", "storageclass.storage.k8s.io %q not found", name)
	case f.class.Provisioner == noProvisioner:
		return wait("FailedBinding", "no persistent volumes available for this claim, and storage class %q makes none", name)
	}
	return claimPlan{provision: true}
}

func waitsForConsumer(class *storagev1.StorageClass) bool {
	return class != nil && or(class.VolumeBindingMode, storagev1.VolumeBindingImmediate) == storagev1.VolumeBindingWaitForFirstConsumer
}

// fate is what is to be done about a volume.
type fate int

const (
	leave   fate = iota
	free         // its phase is Available
	bound        // its phase is Bound
	unbind       // its claim has another volume: nobody has it
	release      // its claim is gone: what then happens is the reclaim policy's
)

// planVolume decides about a volume; claim is the one that it names, nil when that is gone.
func planVolume(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) fate {
	ref := v.Spec.ClaimRef
	switch {
	case ref == nil || ref.UID == "":
		return free
	case claim == nil || claim.UID != ref.UID:
		return release
	case claim.Spec.VolumeName == v.Name:
		return bound
	case claim.Spec.VolumeName == "":
		return leave // the claim is about to be bound
	case v.Annotations[provisionedBy] != "" && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return release // made for a claim that then took another one
	}
	return unbind
}

// reclaim is how the data of a released volume goes.
type reclaim int

const (
	keep     reclaim = iota
	scrub            // by a pod of ours
	external         // by whoever made the volume
	refuse           // nobody can
)

func planReclaim(v *corev1.PersistentVolume) reclaim {
	scrubbable := v.Spec.HostPath != nil || v.Spec.NFS != nil
	switch v.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimRecycle:
		if scrubbable {
			return scrub
		}
		return refuse
	case corev1.PersistentVolumeReclaimDelete:
		switch {
		case IsLocal(v):
			return scrub
		case v.Annotations[provisionedBy] != "" || v.Spec.CSI != nil:
			return external
		}
		return refuse
	}
	return keep
}
