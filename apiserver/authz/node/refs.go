package node

import (
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
)

// ref is an object that a pod refers to: its plural, namespace and name.
type ref struct{ kind, namespace, name string }

// refsOf is everything in its namespace that a pod refers to. Mirror pods refer to nothing: the node made them up.
func refsOf(p *corev1.Pod) map[ref]struct{} {
	out := map[ref]struct{}{}
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return out
	}
	add := func(kind, name string) {
		if name != "" {
			out[ref{kind, p.Namespace, name}] = struct{}{}
		}
	}
	add("serviceaccounts", p.Spec.ServiceAccountName)
	for _, s := range p.Spec.ImagePullSecrets {
		add("secrets", s.Name)
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			environment(list[i].Env, list[i].EnvFrom, add)
		}
	}
	for i := range p.Spec.EphemeralContainers {
		environment(p.Spec.EphemeralContainers[i].Env, p.Spec.EphemeralContainers[i].EnvFrom, add)
	}
	for i := range p.Spec.Volumes {
		volumeRefs(p, &p.Spec.Volumes[i], add)
	}
	for _, c := range p.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			add("resourceclaims", *c.ResourceClaimName)
		}
	}
	for _, c := range p.Status.ResourceClaimStatuses {
		if c.ResourceClaimName != nil {
			add("resourceclaims", *c.ResourceClaimName)
		}
	}
	return out
}

func environment(env []corev1.EnvVar, from []corev1.EnvFromSource, add func(kind, name string)) {
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add("secrets", r.Name)
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add("configmaps", r.Name)
		}
	}
	for _, e := range from {
		if e.SecretRef != nil {
			add("secrets", e.SecretRef.Name)
		}
		if e.ConfigMapRef != nil {
			add("configmaps", e.ConfigMapRef.Name)
		}
	}
}

func volumeRefs(p *corev1.Pod, v *corev1.Volume, add func(kind, name string)) {
	local := func(r *corev1.LocalObjectReference) {
		if r != nil {
			add("secrets", r.Name)
		}
	}
	switch s := v.VolumeSource; {
	case s.Secret != nil:
		add("secrets", s.Secret.SecretName)
	case s.ConfigMap != nil:
		add("configmaps", s.ConfigMap.Name)
	case s.Projected != nil:
		for _, source := range s.Projected.Sources {
			if source.Secret != nil {
				add("secrets", source.Secret.Name)
			}
			if source.ConfigMap != nil {
				add("configmaps", source.ConfigMap.Name)
			}
		}
	case s.PersistentVolumeClaim != nil:
		add("persistentvolumeclaims", s.PersistentVolumeClaim.ClaimName)
	case s.Ephemeral != nil:
		add("persistentvolumeclaims", p.Name+"-"+v.Name)
	case s.CSI != nil:
		local(s.CSI.NodePublishSecretRef)
	case s.AzureFile != nil:
		add("secrets", s.AzureFile.SecretName)
	case s.CephFS != nil:
		local(s.CephFS.SecretRef)
	case s.Cinder != nil:
		local(s.Cinder.SecretRef)
	case s.FlexVolume != nil:
		local(s.FlexVolume.SecretRef)
	case s.RBD != nil:
		local(s.RBD.SecretRef)
	case s.ScaleIO != nil:
		local(s.ScaleIO.SecretRef)
	case s.ISCSI != nil:
		local(s.ISCSI.SecretRef)
	case s.StorageOS != nil:
		local(s.StorageOS.SecretRef)
	}
}

// volumeSecrets are the secrets that mounting a volume needs.
func volumeSecrets(v *corev1.PersistentVolume) []ref {
	var out []ref
	add := func(s *corev1.SecretReference) {
		if s != nil && s.Name != "" {
			out = append(out, ref{"secrets", s.Namespace, s.Name})
		}
	}
	if s := v.Spec.CSI; s != nil {
		add(s.NodePublishSecretRef)
		add(s.NodeStageSecretRef)
		add(s.NodeExpandSecretRef)
		add(s.ControllerPublishSecretRef)
		add(s.ControllerExpandSecretRef)
	}
	if s := v.Spec.ISCSI; s != nil {
		add(s.SecretRef)
	}
	if s := v.Spec.RBD; s != nil {
		add(s.SecretRef)
	}
	if s := v.Spec.CephFS; s != nil {
		add(s.SecretRef)
	}
	return out
}

func nodeOfSlice(s any) string {
	if slice, ok := s.(*resourcev1.ResourceSlice); ok && slice.Spec.NodeName != nil {
		return *slice.Spec.NodeName
	}
	return ""
}
