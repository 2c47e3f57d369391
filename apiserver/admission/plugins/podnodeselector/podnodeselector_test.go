package podnodeselector

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
)

func TestPlugin(t *testing.T) {
	conf := admission.Config{name: []byte("podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: env=dev, narrow: 'env=dev,disk=ssd'}")}
	annotated := map[string]map[string]string{"prod": {annotation: "env=prod"}, "open": {annotation: ""}, "wrong": {annotation: "a in (b)"}}
	p, err := New(conf, func(_ context.Context, name string) (*corev1.Namespace, error) {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotated[name]}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		namespace string
		has       map[string]string
		want      string
	}{
		"the default":               {"any", nil, "map[env:dev]"},
		"the default and its own":   {"any", map[string]string{"a": "b"}, "map[a:b env:dev]"},
		"against the default":       {"any", map[string]string{"env": "prod"}, "pod node label selector conflicts with its namespace node label selector"},
		"the namespace's":           {"prod", nil, "map[env:prod]"},
		"the namespace's, the same": {"prod", map[string]string{"env": "prod"}, "map[env:prod]"},
		"an open namespace":         {"open", map[string]string{"env": "x"}, "map[env:x]"},
		"allowed":                   {"narrow", map[string]string{"disk": "ssd"}, "map[disk:ssd env:dev]"},
		"not allowed":               {"narrow", map[string]string{"gpu": "yes"}, "labels conflict with its namespace whitelist"},
		"not allowed value":         {"narrow", map[string]string{"disk": "hdd"}, "labels conflict with its namespace whitelist"},
		"a bad annotation":          {"wrong", nil, "annotation " + annotation},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: c.has}}
		a := &admission.Attributes{Kind: core.Pod, Operation: admission.Create, Namespace: c.namespace, Object: pod}
		err := admission.Chain{p}.Mutate(t.Context(), a)
		if err == nil {
			err = admission.Chain{p}.Validate(t.Context(), a)
		}
		got := fmt.Sprint(pod.Spec.NodeSelector)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if _, err := New(admission.Config{name: []byte("podNodeSelectorPluginConfig: {a: 'b in (c)'}")}, nil); err == nil {
		t.Error("a bad selector was accepted")
	}
}
