// Package extendedresourcetoleration lets pods that ask for devices onto the nodes that are tainted with the devices'
// names, so that such nodes can be kept for such pods.
package extendedresourcetoleration

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"hardway/apiserver/admission"
)

// Plugin is the plugin.
type Plugin struct{}

// Name is upstream's.
func (Plugin) Name() string { return "ExtendedResourceToleration" }

// Mutate adds a toleration for each extended resource that a new or changed pod asks for.
func (Plugin) Mutate(_ context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Subresource != "" {
		return nil
	}
	asks := map[string]bool{}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for name := range c.Resources.Requests {
			if extended(name) {
				asks[string(name)] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(asks)) {
		want := corev1.Toleration{Key: name, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool { return t.MatchToleration(&want) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, want)
		}
	}
	return nil
}

// extended says whether a resource is neither Kubernetes' own nor a part of a quota.
func extended(name corev1.ResourceName) bool {
	domain, _, qualified := strings.Cut(string(name), "/")
	if !qualified || domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}
