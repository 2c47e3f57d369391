package podtolerationrestriction

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
)

func TestPlugin(t *testing.T) {
	conf := admission.Config{name: []byte(`
apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1
kind: Configuration
default: [{key: std, operator: Exists}]
whitelist: [{key: std, operator: Exists}, {key: own, operator: Exists}, {key: node.kubernetes.io/memory-pressure, operator: Exists}]`)}
	namespaces := map[string]map[string]string{
		"gpu":   {defaultAnnotation: `[{"key":"gpu","operator":"Exists"}]`, allowedAnnotation: `[{"key":"gpu","operator":"Exists"}]`},
		"none":  {defaultAnnotation: "", allowedAnnotation: ""},
		"wrong": {defaultAnnotation: "{"},
	}
	p, err := New(conf, func(_ context.Context, name string) (*corev1.Namespace, error) {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: namespaces[name]}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		op        admission.Operation
		namespace string
		has, cpu  string
		want      string
	}{
		"the cluster's default":      {admission.Create, "any", "", "", "[std]"},
		"its own, allowed":           {admission.Create, "any", "own", "", "[own std]"},
		"its own, not allowed":       {admission.Create, "any", "else", "", "conflict with its cluster whitelist"},
		"the namespace's default":    {admission.Create, "gpu", "", "", "[gpu]"},
		"not allowed there":          {admission.Create, "gpu", "std", "", "conflict with its namespace whitelist"},
		"a namespace without either": {admission.Create, "none", "else", "", "[else]"},
		"not best effort":            {admission.Create, "any", "", "1", "[std node.kubernetes.io/memory-pressure]"},
		"changed":                    {admission.Update, "any", "own", "", "[own]"},
		"changed, not allowed":       {admission.Update, "any", "else", "", "conflict with its cluster whitelist"},
		"a bad annotation":           {admission.Create, "wrong", "", "", "annotation " + defaultAnnotation},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{}}}}
		if c.has != "" {
			pod.Spec.Tolerations = []corev1.Toleration{{Key: c.has, Operator: corev1.TolerationOpExists}}
		}
		if c.cpu != "" {
			pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(c.cpu)}
		}
		a := &admission.Attributes{Kind: core.Pod, Operation: c.op, Namespace: c.namespace, Object: pod}
		err := p.Mutate(t.Context(), a)
		if err == nil {
			err = p.Validate(t.Context(), a)
		}
		keys := []string{}
		for _, tol := range pod.Spec.Tolerations {
			keys = append(keys, tol.Key)
		}
		got := fmt.Sprint(keys)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
