// Package coordination declares the kinds of the group coordination.k8s.io.
package coordination

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// Lease is a claim that expires unless it is renewed: node heartbeats, leader election.
var Lease = resource.Define(scheme.Types, resource.Spec[coordinationv1.Lease]{
	Names:               resource.Names{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease", Plural: "leases"},
	Scope:               resource.Namespaced,
	Validate:            validateLease,
	AllowCreateOnUpdate: true,
	Columns: []resource.Column[coordinationv1.Lease]{
		{Name: "Holder", Describe: coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"], Value: holder},
		show.Age[coordinationv1.Lease](),
	},
})

func holder(l *coordinationv1.Lease) any {
	if l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

func validateLease(l *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	spec, path := &l.Spec, field.NewPath("spec")
	if d := spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(path.Child("leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	if n := spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(path.Child("leaseTransitions"), *n, "must be greater than or equal to 0"))
	}
	// Differs from upstream, where the fields are in alpha and dropped without a word.
	const coordinated = "coordinated leader election is not supported"
	if spec.Strategy != nil {
		errs = append(errs, field.Forbidden(path.Child("strategy"), coordinated))
	}
	if spec.PreferredHolder != nil {
		errs = append(errs, field.Forbidden(path.Child("preferredHolder"), coordinated))
	}
	return errs
}
