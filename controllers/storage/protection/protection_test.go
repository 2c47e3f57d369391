package protection

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestChange(t *testing.T) {
	ending := &metav1.Time{}
	for name, c := range map[string]struct {
		has    []string
		ending bool
		used   bool
		want   []string // nil: nothing to do
	}{
		"new":                   {nil, false, false, []string{"p"}},
		"protected":             {[]string{"p", "x"}, false, true, nil},
		"deleted and used":      {[]string{"p"}, true, true, nil},
		"deleted and free":      {[]string{"x", "p"}, true, false, []string{"x"}},
		"deleted, unprotected":  {[]string{"x"}, true, true, nil},
		"deleted, free already": {[]string{"x"}, true, false, nil},
	} {
		obj := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Finalizers: c.has}}
		if c.ending {
			obj.DeletionTimestamp = ending
		}
		got, differ := change(obj, "p", c.used)
		if differ != (c.want != nil) || differ && !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, differ, c.want)
		}
	}
}

func TestUses(t *testing.T) {
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{NodeName: "n", Volumes: []corev1.Volume{
			{Name: "a", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
			{Name: "b", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
		}}}
		change(p)
		return p
	}
	same := func(*corev1.Pod) {}
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		claim  string
		want   bool
	}{
		"by name":      {same, "data", true},
		"by template":  {same, "web-b", true},
		"another":      {same, "other", false},
		"without node": {func(p *corev1.Pod) { p.Spec.NodeName = "" }, "data", false},
		"declared gone": {func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{}, new(int64(0))
		}, "data", false},
		"going": {func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{}, new(int64(30))
		}, "data", true},
	} {
		if got := uses(pod(c.change), c.claim); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
