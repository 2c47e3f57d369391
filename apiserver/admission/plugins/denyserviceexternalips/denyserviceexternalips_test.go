package denyserviceexternalips

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
)

func TestValidate(t *testing.T) {
	with := func(ips ...string) *corev1.Service {
		return &corev1.Service{Spec: corev1.ServiceSpec{ExternalIPs: ips}}
	}
	for name, c := range map[string]struct {
		old, now *corev1.Service
		refused  bool
	}{
		"new without":  {nil, with(), false},
		"new with":     {nil, with("192.0.2.1"), true},
		"kept":         {with("192.0.2.1"), with("192.0.2.1"), false},
		"taken away":   {with("192.0.2.1"), with(), false},
		"one is added": {with("192.0.2.1"), with("192.0.2.1", "192.0.2.2"), true},
	} {
		a := &admission.Attributes{Kind: core.Service, Operation: admission.Create, Object: c.now}
		if c.old != nil {
			a.Operation, a.Old = admission.Update, c.old
		}
		if err := (Plugin{}).Validate(t.Context(), a); (err != nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
