package binder

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// scrubNamespace is where the pods run that empty volumes, forVolume the annotation that names the volume.
	scrubNamespace = metav1.NamespaceSystem
	forVolume      = "hardway/scrubs-volume"
	// scrubLimit is how many seconds a pod may take to empty a volume.
	scrubLimit = 600
)

// scrubPod empties a volume, on the node where it is. A volume that we made is removed with its folder.
func scrubPod(v *corev1.PersistentVolume, image string) *corev1.Pod {
	source := corev1.VolumeSource{HostPath: v.Spec.HostPath, NFS: v.Spec.NFS}
	script := `cd /scrub && rm -rf ..?* .[!.]* * && test -z "$(ls -A)"`
	if IsLocal(v) {
		source.HostPath = &corev1.HostPathVolumeSource{Path: path.Dir(v.Spec.HostPath.Path), Type: new(corev1.HostPathDirectoryOrCreate)}
		script = `rm -rf "/scrub/$VOLUME"`
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: scrubNamespace, Name: scrubName(v), Annotations: map[string]string{forVolume: v.Name},
			Labels: map[string]string{"app.kubernetes.io/managed-by": "hardway-controllers"},
		},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, ActiveDeadlineSeconds: new(int64(scrubLimit)), AutomountServiceAccountToken: new(false),
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Volumes:     []corev1.Volume{{Name: "scrub", VolumeSource: source}},
			Containers: []corev1.Container{{
				Name: "scrub", Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"/bin/sh", "-c", script},
				VolumeMounts: []corev1.VolumeMount{{Name: "scrub", MountPath: "/scrub"}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
				}},
			}},
		},
	}
	if IsLocal(v) {
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "VOLUME", Value: path.Base(v.Spec.HostPath.Path)}}
	}
	if at := v.Spec.NodeAffinity; at != nil && at.Required != nil {
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: at.Required}}
	}
	return pod
}

func scrubName(v *corev1.PersistentVolume) string { return "scrub-" + string(v.UID) }
