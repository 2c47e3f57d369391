// Package podtopologylabels writes zone and region of its node onto a pod, when the pod gets its node, so that it can read
// them without reading nodes.
package podtopologylabels

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
)

// labels are those that are copied.
var labels = []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion}

// Plugin is the plugin. Node finds a node, nil when there is none.
type Plugin struct {
	Node func(name string) *corev1.Node
}

// Name is upstream's.
func (Plugin) Name() string { return "PodTopologyLabels" }

// Mutate labels a pod that is made with a node, or bound to one.
func (p Plugin) Mutate(_ context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" || !(a.Operation == admission.Create && a.Subresource == "" || a.Subresource == "binding") {
		return nil
	}
	node := p.Node(pod.Spec.NodeName)
	if node == nil {
		return nil
	}
	for _, key := range labels {
		if value, has := node.Labels[key]; has {
			if pod.Labels == nil {
				pod.Labels = map[string]string{}
			}
			pod.Labels[key] = value
		}
	}
	return nil
}
