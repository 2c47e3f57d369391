// Package limitpodhardantiaffinitytopology lets pods keep others away only from their node, not from whole zones.
package limitpodhardantiaffinitytopology

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
)

// Plugin is the plugin.
type Plugin struct{}

// Name is upstream's.
func (Plugin) Name() string { return "LimitPodHardAntiAffinityTopology" }

// Validate looks at the required terms of a pod's anti-affinity.
func (Plugin) Validate(_ context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Subresource != "" || pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	for _, term := range pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if term.TopologyKey != corev1.LabelHostname {
			return admission.Forbid(a, "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey %v but only key %v is allowed", term.TopologyKey, corev1.LabelHostname)
		}
	}
	return nil
}
