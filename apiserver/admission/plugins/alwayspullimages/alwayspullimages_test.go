package alwayspullimages

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
)

// pod has one image of each kind.
func pod(image string, policy corev1.PullPolicy) *corev1.Pod {
	return &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers:      []corev1.Container{{Image: "init", ImagePullPolicy: policy}},
		Containers:          []corev1.Container{{Image: image, ImagePullPolicy: policy}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Image: "eph", ImagePullPolicy: policy}}},
		Volumes:             []corev1.Volume{{}, {VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "vol", PullPolicy: policy}}}},
	}}
}

func TestPlugin(t *testing.T) {
	for name, c := range map[string]struct {
		sub  string
		old  *corev1.Pod
		want corev1.PullPolicy
	}{
		"new":                    {"", nil, corev1.PullAlways},
		"another image":          {"", pod("other", corev1.PullNever), corev1.PullAlways},
		"an ephemeral container": {"ephemeralcontainers", pod("other", corev1.PullNever), corev1.PullAlways},
		"the same images":        {"", pod("main", corev1.PullNever), corev1.PullNever},
		"status":                 {"status", pod("other", corev1.PullNever), corev1.PullNever},
	} {
		now := pod("main", corev1.PullNever)
		a := &admission.Attributes{Kind: core.Pod, Operation: admission.Update, Subresource: c.sub, Object: now}
		if c.old != nil {
			a.Old = c.old
		}
		if err := (Plugin{}).Mutate(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		each(now, func(at *field.Path, _ string, policy *corev1.PullPolicy) {
			if *policy != c.want {
				t.Errorf("%s: %s is %s, want %s", name, at, *policy, c.want)
			}
		})
		if err := (Plugin{}).Validate(t.Context(), a); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := (Plugin{}).Validate(t.Context(), &admission.Attributes{Kind: core.Pod, Operation: admission.Create, Object: pod("main", corev1.PullNever)})
	if err == nil || !strings.Contains(err.Error(), `spec.volumes[1].image.pullPolicy: Unsupported value: "Never": supported values: "Always"`) {
		t.Errorf("changed after the plugin: %v", err)
	}
}
