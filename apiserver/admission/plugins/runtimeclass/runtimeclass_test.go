package runtimeclass

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
)

func cpu(amount string) corev1.ResourceList {
	if amount == "" {
		return nil
	}
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(amount)}
}

func TestPlugin(t *testing.T) {
	classes := map[string]*nodev1.RuntimeClass{
		"plain": {},
		"vm":    {Overhead: &nodev1.Overhead{PodFixed: cpu("100m")}},
		"gpu": {Scheduling: &nodev1.Scheduling{
			NodeSelector: map[string]string{"gpu": "yes"}, Tolerations: []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}},
		}},
	}
	p := Plugin{func(_ context.Context, name string) (*nodev1.RuntimeClass, error) {
		if c := classes[name]; c != nil {
			return c, nil
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "runtimeclasses"}, name)
	}}
	for name, c := range map[string]struct {
		class    string
		overhead corev1.ResourceList
		selector map[string]string
		want     string // what the pod then says, or why not
	}{
		"no class":            {"", nil, nil, "map[] map[] 0"},
		"a plain class":       {"plain", nil, nil, "map[] map[] 0"},
		"overhead":            {"vm", nil, nil, "map[cpu:100m] map[] 0"},
		"the same overhead":   {"vm", cpu("0.1"), nil, "map[cpu:100m] map[] 0"},
		"another overhead":    {"vm", cpu("1"), nil, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"},
		"overhead of its own": {"", cpu("1"), nil, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"},
		"nodes":               {"gpu", nil, nil, "map[] map[gpu:yes] 1"},
		"nodes and its own":   {"gpu", nil, map[string]string{"a": "b"}, "map[] map[a:b gpu:yes] 1"},
		"other nodes":         {"gpu", nil, map[string]string{"gpu": "no"}, "conflict: runtimeClass.scheduling.nodeSelector[gpu] = yes; pod.spec.nodeSelector[gpu] = no"},
		"a class that is not": {"ghost", nil, nil, `pod rejected: RuntimeClass "ghost" not found`},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Overhead: c.overhead, NodeSelector: c.selector}}
		if c.class != "" {
			pod.Spec.RuntimeClassName = &c.class
		}
		a := &admission.Attributes{Kind: core.Pod, Operation: admission.Create, Object: pod}
		err := p.Mutate(t.Context(), a)
		if err == nil {
			err = p.Validate(t.Context(), a)
		}
		got := fmt.Sprint(show(pod.Spec.Overhead), pod.Spec.NodeSelector, len(pod.Spec.Tolerations))
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if classes["vm"].Overhead.PodFixed.Cpu().String() != "100m" {
		t.Error("a class was changed")
	}
}

func show(l corev1.ResourceList) map[string]string {
	out := map[string]string{}
	for name, q := range l {
		out[string(name)] = q.String()
	}
	return out
}
