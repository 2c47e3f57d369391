package replicaset

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

const (
	suffixLength = 5  // of the random part of a pod's name, as the API server's generateName has it
	longestBase  = 58 // what is left for the ReplicaSet's name, so that the pod's name still makes a host name
)

// newPod makes a pod from the set's template. Its name is chosen here and not by the server, so that a creation whose
// answer got lost can be asked after.
func newPod(set *appsv1.ReplicaSet) *corev1.Pod {
	t := set.Spec.Template.DeepCopy()
	base := set.Name + "-"
	stem := base
	if len(stem) > longestBase {
		stem = stem[:longestBase]
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: set.Namespace, Name: stem + rand.String(suffixLength), GenerateName: base,
			Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations), Finalizers: slices.Clone(t.Finalizers),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, kind)},
		},
		Spec: t.Spec,
	}
}
