package podset

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestFromTemplate(t *testing.T) {
	name := strings.Repeat("long-", 20)
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "set"}}
	p := FromTemplate(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), &corev1.PodTemplateSpec{}, name+"-")
	if len(p.Name) != longestStem+suffixLength || p.GenerateName != name+"-" {
		t.Errorf("name %q, generateName %q", p.Name, p.GenerateName)
	}
	if ref := metav1.GetControllerOf(p); ref == nil || ref.UID != "set" || ref.Kind != "ReplicaSet" || !*ref.BlockOwnerDeletion {
		t.Errorf("owner: %+v", ref)
	}
}
