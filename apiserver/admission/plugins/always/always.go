// Package always has the two plugins that do not look at what they judge: one lets everything through, the other nothing.
package always

import (
	"context"

	"hardway/apiserver/admission"
)

// Admit lets everything through.
type Admit struct{}

// Name is upstream's.
func (Admit) Name() string { return "AlwaysAdmit" }

// Deny refuses every write.
type Deny struct{}

// Name is upstream's.
func (Deny) Name() string { return "AlwaysDeny" }

// Validate refuses.
func (Deny) Validate(_ context.Context, a *admission.Attributes) error {
	return admission.Forbid(a, "admission control is denying all modifications")
}
