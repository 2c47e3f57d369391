package core

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// tokenSeconds is how long a projected service account token lives.
const tokenSeconds = 60 * 60

// defaultVolume fills what a volume leaves out; a volume without any source is an emptyDir.
func defaultVolume(v *corev1.VolumeSource) {
	if equality.Semantic.DeepEqual(*v, corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	switch {
	case v.HostPath != nil:
		if v.HostPath.Type == nil {
			unset := corev1.HostPathUnset
			v.HostPath.Type = &unset
		}
	case v.Secret != nil:
		defaultMode(&v.Secret.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	case v.ConfigMap != nil:
		defaultMode(&v.ConfigMap.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	case v.DownwardAPI != nil:
		defaultMode(&v.DownwardAPI.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
		defaultDownwardFiles(v.DownwardAPI.Items)
	case v.Projected != nil:
		defaultMode(&v.Projected.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
		for i := range v.Projected.Sources {
			p := &v.Projected.Sources[i]
			if p.DownwardAPI != nil {
				defaultDownwardFiles(p.DownwardAPI.Items)
			}
			if t := p.ServiceAccountToken; t != nil && t.ExpirationSeconds == nil {
				seconds := int64(tokenSeconds)
				t.ExpirationSeconds = &seconds
			}
		}
	case v.Ephemeral != nil:
		if t := v.Ephemeral.VolumeClaimTemplate; t != nil {
			DefaultClaimSpec(&t.Spec)
		}
	case v.Image != nil:
		v.Image.PullPolicy = cmp.Or(v.Image.PullPolicy, pullPolicy(v.Image.Reference))
	default:
		defaultDisk(v)
	}
}

// defaultDisk fills the options of disks that come over the network.
func defaultDisk(v *corev1.VolumeSource) {
	switch {
	case v.ISCSI != nil:
		v.ISCSI.ISCSIInterface = cmp.Or(v.ISCSI.ISCSIInterface, "default")
	case v.RBD != nil:
		v.RBD.RBDPool = cmp.Or(v.RBD.RBDPool, "rbd")
		v.RBD.RadosUser = cmp.Or(v.RBD.RadosUser, "admin")
		v.RBD.Keyring = cmp.Or(v.RBD.Keyring, "/etc/ceph/keyring")
	case v.ScaleIO != nil:
		v.ScaleIO.StorageMode = cmp.Or(v.ScaleIO.StorageMode, "ThinProvisioned")
		v.ScaleIO.FSType = cmp.Or(v.ScaleIO.FSType, "xfs")
	case v.AzureDisk != nil:
		defaultAzureDisk(v.AzureDisk)
	}
}

func defaultAzureDisk(d *corev1.AzureDiskVolumeSource) {
	if d.CachingMode == nil {
		mode := corev1.AzureDataDiskCachingReadWrite
		d.CachingMode = &mode
	}
	if d.FSType == nil {
		fs := "ext4"
		d.FSType = &fs
	}
	if d.ReadOnly == nil {
		d.ReadOnly = new(bool)
	}
	if d.Kind == nil {
		kind := corev1.AzureSharedBlobDisk
		d.Kind = &kind
	}
}

func defaultMode(mode **int32, value int32) { //nolint:unparam // upstream has a constant for each type of volume
	if *mode == nil {
		*mode = &value
	}
}

func defaultDownwardFiles(files []corev1.DownwardAPIVolumeFile) {
	for i := range files {
		defaultFieldRef(files[i].FieldRef)
	}
}
