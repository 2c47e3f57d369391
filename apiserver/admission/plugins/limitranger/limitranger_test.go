package limitranger

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"hardway/apiserver/admission"
	kinds "hardway/apiserver/resource"
)

func quantities(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func plugin(items ...corev1.LimitRangeItem) Plugin {
	return Plugin{Ranges: func(context.Context, string) ([]*corev1.LimitRange, error) {
		return []*corev1.LimitRange{{Spec: corev1.LimitRangeSpec{Limits: items}}}, nil
	}}
}

func attributes(obj kinds.Object) *admission.Attributes {
	return &admission.Attributes{Operation: admission.Create, Kind: &kinds.Kind{Names: kinds.Names{Plural: "pods"}}, Object: obj}
}

func TestDefaults(t *testing.T) {
	p := plugin(corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, Default: quantities("cpu", "500m", "memory", "500Mi"), DefaultRequest: quantities("cpu", "100m")})
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "bare"}, {Name: "full", Resources: corev1.ResourceRequirements{Requests: quantities("cpu", "50m"), Limits: quantities("cpu", "60m", "memory", "1Mi")}},
	}}}
	if err := p.Mutate(t.Context(), attributes(pod)); err != nil {
		t.Fatal(err)
	}
	bare, full := pod.Spec.Containers[0].Resources, pod.Spec.Containers[1].Resources
	if bare.Requests.Cpu().String() != "100m" || bare.Limits.Cpu().String() != "500m" || bare.Limits.Memory().String() != "500Mi" {
		t.Errorf("bare: %+v", bare)
	}
	if full.Requests.Cpu().String() != "50m" || full.Limits.Cpu().String() != "60m" {
		t.Errorf("full: %+v", full)
	}
	if got := pod.Annotations[annotation]; got != "LimitRanger plugin set: cpu request for container bare; cpu, memory limit for container bare" {
		t.Errorf("note: %q", got)
	}
}

func TestBounds(t *testing.T) {
	p := plugin(
		corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, Min: quantities("cpu", "50m"), Max: quantities("memory", "1Gi"), MaxLimitRequestRatio: quantities("cpu", "2")},
		corev1.LimitRangeItem{Type: corev1.LimitTypePod, Max: quantities("cpu", "1")},
		corev1.LimitRangeItem{Type: corev1.LimitTypePersistentVolumeClaim, Max: quantities("storage", "2Gi")},
	)
	container := func(requests, limits corev1.ResourceList) corev1.Container {
		return corev1.Container{Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
	}
	good := container(quantities("cpu", "100m", "memory", "1Mi"), quantities("cpu", "200m", "memory", "1Mi"))
	for name, row := range map[string]struct {
		obj  kinds.Object
		want string
	}{
		"good":              {&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{good}}}, ""},
		"too little":        {&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(quantities("cpu", "10m"), quantities("cpu", "20m", "memory", "1Mi"))}}}, "minimum cpu usage per Container is 50m, but request is 10m"},
		"no limit":          {&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(quantities("cpu", "100m"), quantities("cpu", "100m"))}}}, "maximum memory usage per Container is 1Gi.  No limit is specified"},
		"too far apart":     {&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(quantities("cpu", "100m"), quantities("cpu", "300m", "memory", "1Mi"))}}}, "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"},
		"too much a pod":    {&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{good, container(quantities("cpu", "900m"), quantities("cpu", "900m", "memory", "1Mi"))}}}, "maximum cpu usage per Pod is 1, but limit is 1100m"},
		"too large a claim": {&corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: quantities("storage", "3Gi")}}}, "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"},
	} {
		err := p.Validate(t.Context(), attributes(row.obj))
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
