package podresizevalidator

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
)

func list(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func TestValidate(t *testing.T) {
	nodes := map[string]*corev1.Node{
		"a": {Status: corev1.NodeStatus{Allocatable: list("2", "1Gi")}},
		"w": {ObjectMeta: metav1.ObjectMeta{Name: "w", Labels: map[string]string{corev1.LabelOSStable: "windows"}}},
	}
	p := Plugin{func(name string) *corev1.Node { return nodes[name] }}
	pod := func(node, cpu, memory string) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list(cpu, memory)}}}}}
	}
	for name, c := range map[string]struct {
		node, cpu, memory string
		want, cause       string
	}{
		"fits":             {"a", "2", "1Gi", "", ""},
		"too much CPU":     {"a", "3", "1Gi", "node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000", "NodeCapacity"},
		"too much of both": {"a", "3", "2Gi", "allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824", "NodeCapacity"},
		"unchanged":        {"a", "1", "1Gi", "", ""},
		"not placed":       {"", "100", "1Gi", "", ""},
		"Windows":          {"w", "2", "1Gi", `only supported on linux nodes, node "w" is "windows"`, "UnsupportedPlatform"},
		"the node is gone": {"b", "2", "1Gi", `node "b" not found`, ""},
	} {
		err := p.Validate(t.Context(), &admission.Attributes{
			Kind: core.Pod, Operation: admission.Update, Subresource: "resize", Old: pod(c.node, "1", "1Gi"), Object: pod(c.node, c.cpu, c.memory),
		})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if c.cause != "" && !apierrors.HasStatusCause(err, metav1.CauseType(c.cause)) {
			t.Errorf("%s: the cause %s is missing", name, c.cause)
		}
	}
}
