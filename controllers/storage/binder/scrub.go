package binder

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// scrubNamespace is where the pods run that empty volumes: one that cannot start is then no fault of kube-system. It is made when
	// the first one is needed. forVolume is the annotation that names the volume.
	scrubNamespace = "hardway-volumes"
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

// scrubSpace is the namespace of those pods. They mount folders of nodes, which stricter rules for the whole cluster must not forbid.
func scrubSpace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: scrubNamespace, Labels: map[string]string{
		"app.kubernetes.io/managed-by": "hardway-controllers", "pod-security.kubernetes.io/enforce": "privileged",
	}}}
}

// stuck says why a pod's container does not start, "" when it may yet.
func stuck(pod *corev1.Pod) string {
	for _, s := range pod.Status.ContainerStatuses {
		if w := s.State.Waiting; w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			return w.Reason
		}
	}
	return ""
}

func scrubName(v *corev1.PersistentVolume) string { return "scrub-" + string(v.UID) }
