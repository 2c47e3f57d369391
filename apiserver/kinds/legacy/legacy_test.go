package legacy

import (
	"testing"

	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

func TestBackendsMoveInAndOut(t *testing.T) {
	const doc = `
metadata: {name: web}
spec:
  backend: {serviceName: fallback, servicePort: http}
  rules: [{host: a.b, http: {paths: [{path: /, backend: {serviceName: web, servicePort: 80}}]}}]
`
	var in extensionsv1beta1.Ingress
	if err := yaml.Unmarshal([]byte(doc), &in); err != nil {
		t.Fatal(err)
	}
	var now networkingv1.Ingress
	if err := through(&in, &now, backendsIn); err != nil {
		t.Fatal(err)
	}
	p := now.Spec.Rules[0].HTTP.Paths[0]
	if now.Spec.DefaultBackend.Service.Port.Name != "http" || p.Backend.Service.Name != "web" || p.Backend.Service.Port.Number != 80 || *p.PathType != networkingv1.PathTypeImplementationSpecific {
		t.Fatalf("%+v", now.Spec)
	}
	var back extensionsv1beta1.Ingress
	if err := through(&now, &back, backendsOut); err != nil {
		t.Fatal(err)
	}
	if b := back.Spec.Rules[0].HTTP.Paths[0].Backend; b.ServiceName != "web" || b.ServicePort.IntValue() != 80 || back.Spec.Backend.ServicePort.StrVal != "http" {
		t.Errorf("%+v", back.Spec)
	}
}

func TestWhatOldVersionsFilledIn(t *testing.T) {
	doc := map[string]any{"metadata": map[string]any{}, "spec": map[string]any{
		"template": map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": "web"}}},
	}}
	both(chosen, onDelete)(doc)
	if at(doc, "spec", "selector", "matchLabels")["app"] != "web" || at(doc, "spec", "updateStrategy")["type"] != "OnDelete" {
		t.Errorf("%v", doc)
	}
}
