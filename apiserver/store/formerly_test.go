package store_test

import (
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	admissionv1beta1 "k8s.io/api/admissionregistration/v1beta1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hardway/apiserver/kinds/admissionregistration"
	"hardway/apiserver/kinds/apiextensions"
	"hardway/apiserver/store"
)

// Upstream v1.36 stores a few kinds in a version that is served no more: what it wrote is read.
func TestStoredByUpstreamAsBeta(t *testing.T) {
	definition := `{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","metadata":{"name":"foos.example.com","uid":"u","generation":1},` +
		`"spec":{"group":"example.com","version":"v1","names":{"plural":"foos","singular":"foo","kind":"Foo","listKind":"FooList"},"scope":"Namespaced",` +
		`"validation":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}},"subresources":{"status":{}},` +
		`"versions":[{"name":"v1","served":true,"storage":true}],"conversion":{"strategy":"None"},"preserveUnknownFields":false},` +
		`"status":{"conditions":[],"acceptedNames":{"plural":"foos","kind":"Foo"},"storedVersions":["v1"]}}`
	got, err := store.NewCodec(apiextensions.CustomResourceDefinition, nil).Decode(t.Context(), []byte(definition), 7)
	if err != nil {
		t.Fatal(err)
	}
	d := got.Object.(*apiextensionsv1.CustomResourceDefinition)
	if v := d.Spec.Versions; d.APIVersion != "apiextensions.k8s.io/v1" || len(v) != 1 || v[0].Schema == nil || v[0].Schema.OpenAPIV3Schema.Properties["spec"].Type != "object" || v[0].Subresources.Status == nil {
		t.Errorf("%+v", d)
	}

	beta := &admissionv1beta1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: admissionv1beta1.MutatingAdmissionPolicyBindingSpec{PolicyName: "p"}}
	raw, err := beta.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	envelope := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1beta1", Kind: "MutatingAdmissionPolicyBinding"}, Raw: raw}
	text, err := envelope.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err = store.NewCodec(admissionregistration.MutatingAdmissionPolicyBinding, nil).Decode(t.Context(), append([]byte("k8s\x00"), text...), 7)
	if err != nil {
		t.Fatal(err)
	}
	if b := got.Object.(*admissionv1.MutatingAdmissionPolicyBinding); b.Spec.PolicyName != "p" || b.APIVersion != "admissionregistration.k8s.io/v1" {
		t.Errorf("%+v", b)
	}
}
