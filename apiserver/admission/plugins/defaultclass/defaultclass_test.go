package defaultclass

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
)

// class describes one: its age in hours, and the annotation that makes it the default.
type class struct {
	name, annotation string
	age              int
}

func (c class) meta() metav1.ObjectMeta {
	born := time.Unix(1_000_000, 0).Add(-time.Duration(c.age) * time.Hour)
	return metav1.ObjectMeta{Name: c.name, CreationTimestamp: metav1.NewTime(born), Annotations: map[string]string{c.annotation: "true"}}
}

func TestStorage(t *testing.T) {
	own := "own"
	for name, row := range map[string]struct {
		classes []class
		claim   corev1.PersistentVolumeClaim
		want    string
	}{
		"no classes":     {nil, corev1.PersistentVolumeClaim{}, ""},
		"no default":     {[]class{{"a", "x", 1}}, corev1.PersistentVolumeClaim{}, ""},
		"the default":    {[]class{{"a", "x", 1}, {"b", storageDefault, 2}}, corev1.PersistentVolumeClaim{}, "b"},
		"the youngest":   {[]class{{"a", storageDefault, 3}, {"b", storageBeta, 2}}, corev1.PersistentVolumeClaim{}, "b"},
		"first by name":  {[]class{{"b", storageDefault, 2}, {"a", storageDefault, 2}}, corev1.PersistentVolumeClaim{}, "a"},
		"its own":        {[]class{{"b", storageDefault, 2}}, corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &own}}, own},
		"its own, older": {[]class{{"b", storageDefault, 2}}, corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{storageNamed: "x"}}}, ""},
	} {
		p := Storage{func(context.Context) (out []*storagev1.StorageClass, _ error) {
			for _, c := range row.classes {
				out = append(out, &storagev1.StorageClass{ObjectMeta: c.meta()})
			}
			return out, nil
		}}
		if err := p.Mutate(t.Context(), &admission.Attributes{Operation: admission.Create, Object: &row.claim}); err != nil {
			t.Fatal(err)
		}
		if got := text(row.claim.Spec.StorageClassName); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

func TestIngress(t *testing.T) {
	p := Ingress{func(context.Context) ([]*networkingv1.IngressClass, error) {
		return []*networkingv1.IngressClass{{ObjectMeta: class{"a", "x", 1}.meta()}, {ObjectMeta: class{"b", networkingv1.AnnotationIsDefaultIngressClass, 2}.meta()}}, nil
	}}
	own := "own"
	for name, row := range map[string]struct {
		op      admission.Operation
		ingress networkingv1.Ingress
		want    string
	}{
		"new":            {admission.Create, networkingv1.Ingress{}, "b"},
		"changed":        {admission.Update, networkingv1.Ingress{}, ""},
		"its own":        {admission.Create, networkingv1.Ingress{Spec: networkingv1.IngressSpec{IngressClassName: &own}}, own},
		"its own, older": {admission.Create, networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{ingressNamed: "x"}}}, ""},
	} {
		if err := p.Mutate(t.Context(), &admission.Attributes{Operation: row.op, Object: &row.ingress}); err != nil {
			t.Fatal(err)
		}
		if got := text(row.ingress.Spec.IngressClassName); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
