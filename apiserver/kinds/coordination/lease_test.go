package coordination

import (
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
)

func TestCoordinatedLeadersAreRefused(t *testing.T) {
	strategy, holder := coordinationv1.OldestEmulationVersion, "x"
	errs := validateLease(&coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{Strategy: &strategy, PreferredHolder: &holder}})
	if len(errs) != 2 || errs[0].Field != "spec.strategy" || errs[1].Field != "spec.preferredHolder" {
		t.Errorf("errors %v", errs)
	}
}
