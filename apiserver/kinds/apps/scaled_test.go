package apps

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestScale(t *testing.T) {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "ns", UID: "u", ResourceVersion: "7"},
		Spec:   appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
		Status: appsv1.DeploymentStatus{Replicas: 2}}
	Deployment.Default(d)
	sub := Deployment.Subresource("scale")
	shown, err := sub.Read(d)
	if err != nil {
		t.Fatal(err)
	}
	s := shown.(*autoscalingv1.Scale)
	if s.Name != "web" || s.ResourceVersion != "7" || s.Spec.Replicas != 1 || s.Status.Replicas != 2 || s.Status.Selector != "app=web" {
		t.Fatalf("scale %+v", s)
	}
	s.Spec.Replicas = 5
	if err := sub.Write(t.Context(), d, s); err != nil || *d.Spec.Replicas != 5 {
		t.Fatalf("%d replicas, error %v", *d.Spec.Replicas, err)
	}
	for name, tc := range map[string]struct {
		change func(*autoscalingv1.Scale)
		is     func(error) bool
	}{
		"negative":   {func(s *autoscalingv1.Scale) { s.Spec.Replicas = -1 }, apierrors.IsInvalid},
		"too old":    {func(s *autoscalingv1.Scale) { s.ResourceVersion = "6" }, apierrors.IsConflict},
		"of another": {func(s *autoscalingv1.Scale) { s.UID = "v" }, apierrors.IsConflict},
	} {
		sent := s.DeepCopy()
		tc.change(sent)
		if err := sub.Write(t.Context(), d, sent); !tc.is(err) || *d.Spec.Replicas != 5 {
			t.Errorf("%s: %v, %d replicas", name, err, *d.Spec.Replicas)
		}
	}
}
