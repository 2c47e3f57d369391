// Package denyserviceexternalips lets no Service name new external addresses: with them, whoever may write a Service can
// take traffic that is meant for others.
package denyserviceexternalips

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
)

// Plugin is the plugin.
type Plugin struct{}

// Name is upstream's.
func (Plugin) Name() string { return "DenyServiceExternalIPs" }

// Validate lets addresses stay, and go.
func (Plugin) Validate(_ context.Context, a *admission.Attributes) error {
	now, ok := a.Object.(*corev1.Service)
	if !ok || a.Subresource != "" {
		return nil
	}
	var had []string
	if old, ok := a.Old.(*corev1.Service); ok {
		had = old.Spec.ExternalIPs
	}
	for _, ip := range now.Spec.ExternalIPs {
		if !slices.Contains(had, ip) {
			return admission.Forbid(a, "Use of external IPs is denied by admission control")
		}
	}
	return nil
}
