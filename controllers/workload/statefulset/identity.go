package statefulset

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/workload/podset"
)

// ordinalOf reads the ordinal in a pod's name; ok is false when the name is not that of a pod of the set.
func ordinalOf(set *appsv1.StatefulSet, name string) (ordinal int, ok bool) {
	digits, ok := strings.CutPrefix(name, set.Name+"-")
	if !ok || digits == "" || digits != "0" && digits[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	return int(n), err == nil && n >= 0 && digits[0] != '+'
}

func podName(set *appsv1.StatefulSet, ordinal int) string {
	return set.Name + "-" + strconv.Itoa(ordinal)
}

// newPod makes the pod of an ordinal from a revision's template.
func newPod(set *appsv1.StatefulSet, v version, ordinal int) *corev1.Pod {
	pod := podset.FromTemplate(set, kind, v.template, "")
	pod.Name, pod.GenerateName = podName(set, ordinal), set.Name+"-"
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	maps.Copy(pod.Labels, identity(set, ordinal))
	pod.Labels[appsv1.ControllerRevisionHashLabelKey] = v.name
	pod.Spec.Volumes = withClaims(set, pod.Spec.Volumes, ordinal)
	return pod
}

// identity are the labels that tell a pod's place.
func identity(set *appsv1.StatefulSet, ordinal int) map[string]string {
	return map[string]string{appsv1.StatefulSetPodNameLabel: podName(set, ordinal), appsv1.PodIndexLabel: strconv.Itoa(ordinal)}
}

// misplaced reports whether a pod's labels tell another place.
func misplaced(set *appsv1.StatefulSet, pod *corev1.Pod, ordinal int) bool {
	return pod.Labels[appsv1.StatefulSetPodNameLabel] != podName(set, ordinal) || pod.Labels[appsv1.PodIndexLabel] != strconv.Itoa(ordinal)
}

// withClaims puts the pod's own claims in the place of template volumes of the same name.
func withClaims(set *appsv1.StatefulSet, volumes []corev1.Volume, ordinal int) []corev1.Volume {
	for i := range set.Spec.VolumeClaimTemplates {
		t := &set.Spec.VolumeClaimTemplates[i]
		volumes = slices.DeleteFunc(volumes, func(v corev1.Volume) bool { return v.Name == t.Name })
		volumes = append(volumes, corev1.Volume{Name: t.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, t, ordinal)},
		}})
	}
	return volumes
}

func claimName(set *appsv1.StatefulSet, template *corev1.PersistentVolumeClaim, ordinal int) string {
	return template.Name + "-" + podName(set, ordinal)
}

// newClaim makes the claim of an ordinal.
func newClaim(set *appsv1.StatefulSet, template *corev1.PersistentVolumeClaim, ordinal int) *corev1.PersistentVolumeClaim {
	claim := template.DeepCopy()
	claim.Namespace, claim.Name = set.Namespace, claimName(set, template, ordinal)
	if claim.Labels == nil {
		claim.Labels = map[string]string{}
	}
	if set.Spec.Selector != nil {
		maps.Copy(claim.Labels, set.Spec.Selector.MatchLabels)
	}
	claim.OwnerReferences = ownersWanted(set, claim, nil)
	return claim
}

// ownersWanted are the owner references that a claim has to have by the set's retention policy. condemned is the pod
// that uses the claim and is about to go because the set shrinks, or nil. References to others stay.
func ownersWanted(set *appsv1.StatefulSet, claim *corev1.PersistentVolumeClaim, condemned *corev1.Pod) []metav1.OwnerReference {
	policy := appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
	if set.Spec.PersistentVolumeClaimRetentionPolicy != nil {
		policy = *set.Spec.PersistentVolumeClaimRetentionPolicy
	}
	refs := slices.DeleteFunc(slices.Clone(claim.OwnerReferences), func(r metav1.OwnerReference) bool {
		return r.UID == set.UID || r.Kind == "Pod" && strings.HasPrefix(r.Name, set.Name+"-")
	})
	deleted := policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	scaled := policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	switch {
	case condemned != nil && scaled:
		refs = append(refs, metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: condemned.Name, UID: condemned.UID})
	case deleted:
		refs = append(refs, *metav1.NewControllerRef(set, kind))
	}
	return refs
}
