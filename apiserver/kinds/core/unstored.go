package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/resource"
)

// Binding gives a pod its node: the old way to create pods/binding.
var Binding = resource.Define(scheme.Types, resource.Spec[corev1.Binding]{
	Names:   resource.Names{Version: "v1", Kind: "Binding", Plural: "bindings", List: "PodList"},
	Scope:   resource.Namespaced,
	Verbs:   []string{"create"},
	Through: &resource.Through{Parent: "pods", Subresource: "binding"},
})

// ComponentStatus says how the daemons beside the API server are, as far as it can see them.
var ComponentStatus = resource.Define(scheme.Types, resource.Spec[corev1.ComponentStatus]{
	Names: resource.Names{Version: "v1", Kind: "ComponentStatus", Plural: "componentstatuses", Short: []string{"cs"}},
	Scope: resource.Cluster,
	Verbs: []string{"get", "list"},
	Observe: func(ctx context.Context, judge resource.Judge) []*corev1.ComponentStatus {
		return judge.Components(ctx)
	},
	Deprecated: "v1 ComponentStatus is deprecated in v1.19+",
	Columns: []resource.Column[corev1.ComponentStatus]{
		{Name: "Status", Describe: "Status of the component conditions", Value: func(c *corev1.ComponentStatus) any {
			return map[bool]string{true: "Healthy", false: "Unhealthy"}[healthy(c).Status == corev1.ConditionTrue]
		}},
		{Name: "Message", Describe: "Message of the component conditions", Value: func(c *corev1.ComponentStatus) any { return healthy(c).Message }},
		{Name: "Error", Describe: "Error of the component conditions", Value: func(c *corev1.ComponentStatus) any { return healthy(c).Error }},
	},
})

func healthy(c *corev1.ComponentStatus) corev1.ComponentCondition {
	for _, k := range c.Conditions {
		if k.Type == corev1.ComponentHealthy {
			return k
		}
	}
	return corev1.ComponentCondition{Status: corev1.ConditionUnknown}
}
