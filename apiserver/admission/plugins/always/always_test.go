package always

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
)

func TestAlways(t *testing.T) {
	a := &admission.Attributes{Kind: core.ConfigMap, Operation: admission.Create, Name: "c", Object: &corev1.ConfigMap{}}
	if err := (admission.Chain{Admit{}}).Validate(t.Context(), a); err != nil {
		t.Error(err)
	}
	const want = `configmaps "c" is forbidden: admission control is denying all modifications`
	if err := (admission.Chain{Admit{}, Deny{}}).Validate(t.Context(), a); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
