package serviceaccount

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"hardway/apiserver/admission"
)

// Where programs look for their token, and the name of the volume that brings it there.
const (
	tokenPath   = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolume = "kube-api-access-"
	// tokenSeconds is how long a token lives before the node asks for a new one: the odd number marks these volumes.
	tokenSeconds = 3607
	rootCA       = "kube-root-ca.crt"
	// enforce is the annotation by which an account limits the secrets of its pods to those that it lists.
	enforce = "kubernetes.io/enforce-mountable-secrets"
)

func wantsToken(pod *corev1.Pod, account *corev1.ServiceAccount) bool {
	for _, wish := range []*bool{pod.Spec.AutomountServiceAccountToken, account.AutomountServiceAccountToken} {
		if wish != nil {
			return *wish
		}
	}
	return true
}

// mountToken gives every container that has nothing at tokenPath the volume with token, CA and namespace.
func mountToken(pod *corev1.Pod) {
	name := tokenVolume + rand.String(5)
	used := false
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenPath }) {
				continue
			}
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenPath})
			used = true
		}
	}
	if used {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: tokenSources()}})
	}
}

func tokenSources() *corev1.ProjectedVolumeSource {
	seconds, mode := int64(tokenSeconds), corev1.ProjectedVolumeSourceDefaultMode
	return &corev1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
		{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: rootCA},
			Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
		}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
			Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
		}}}},
	}}
}

// mountable refuses secrets that the account does not list.
func mountable(a *admission.Attributes, pod *corev1.Pod, account *corev1.ServiceAccount) error {
	may := func(name string) bool {
		return slices.ContainsFunc(account.Secrets, func(r corev1.ObjectReference) bool { return r.Name == name })
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil && !may(v.Secret.SecretName) {
			return admission.Forbid(a, "volume with secret.secretName=%q is not allowed because service account %s does not reference that secret", v.Secret.SecretName, account.Name)
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !may(e.ValueFrom.SecretKeyRef.Name) {
					return admission.Forbid(a, "container %s with envVar %s referencing secret.secretName=%q is not allowed because service account %s does not reference that secret",
						c.Name, e.Name, e.ValueFrom.SecretKeyRef.Name, account.Name)
				}
			}
			for _, e := range c.EnvFrom {
				if e.SecretRef != nil && !may(e.SecretRef.Name) {
					return admission.Forbid(a, "container %s with envFrom referencing secret.secretName=%q is not allowed because service account %s does not reference that secret",
						c.Name, e.SecretRef.Name, account.Name)
				}
			}
		}
	}
	for i, s := range pod.Spec.ImagePullSecrets {
		if !slices.Contains(account.ImagePullSecrets, s) {
			return admission.Forbid(a, "imagePullSecrets[%d].name=%q is not allowed because service account %s does not reference that imagePullSecret", i, s.Name, account.Name)
		}
	}
	return nil
}
