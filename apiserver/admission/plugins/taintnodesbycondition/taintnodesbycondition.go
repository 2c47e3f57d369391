// Package taintnodesbycondition gives a new node the taint "not ready", so that nothing is placed on it before it has said
// that it is. The node controller takes the taint away.
package taintnodesbycondition

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
)

// Plugin is the plugin.
type Plugin struct{}

// Name is upstream's.
func (Plugin) Name() string { return "TaintNodesByCondition" }

// Mutate taints a new node.
func (Plugin) Mutate(_ context.Context, a *admission.Attributes) error {
	node, ok := a.Object.(*corev1.Node)
	if !ok || a.Operation != admission.Create || a.Subresource != "" {
		return nil
	}
	taint := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
		node.Spec.Taints = append(node.Spec.Taints, taint)
	}
	return nil
}
