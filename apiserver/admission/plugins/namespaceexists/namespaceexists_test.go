package namespaceexists

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/resource"
)

var gr = schema.GroupResource{Resource: "namespaces"}

// known are the namespaces that are there.
type known map[string]bool

func (k known) Find(_ context.Context, _, name string) (resource.Object, error) {
	if name == "broken" {
		return nil, errors.New("no store")
	}
	if !k[name] {
		return nil, apierrors.NewNotFound(gr, name)
	}
	return &corev1.Namespace{}, nil
}

func (k known) Create(_ context.Context, obj resource.Object, _ *metav1.CreateOptions) (resource.Object, []string, error) {
	if obj.GetName() == "raced" {
		return nil, nil, apierrors.NewAlreadyExists(gr, "raced")
	}
	k[obj.GetName()] = true
	return obj, nil, nil
}

func in(namespace string, dry bool) *admission.Attributes {
	return &admission.Attributes{Kind: core.ConfigMap, Operation: admission.Create, Namespace: namespace, DryRun: dry, Object: &corev1.ConfigMap{}}
}

func TestExists(t *testing.T) {
	p := Exists{known{"a": true}}
	if err := p.Validate(t.Context(), in("a", false)); err != nil {
		t.Error(err)
	}
	if err := p.Validate(t.Context(), in("", false)); err != nil {
		t.Error("outside namespaces:", err)
	}
	if err := p.Validate(t.Context(), in("b", false)); !apierrors.IsNotFound(err) {
		t.Errorf("a namespace that is not: %v", err)
	}
}

func TestAutoProvision(t *testing.T) {
	has := known{"a": true}
	p := AutoProvision{has}
	for namespace, wantErr := range map[string]bool{"a": false, "b": false, "": false, "raced": false, "broken": true} {
		if err := p.Mutate(t.Context(), in(namespace, false)); (err != nil) != wantErr {
			t.Errorf("%q: %v", namespace, err)
		}
	}
	if err := p.Mutate(t.Context(), in("dry", true)); err != nil || has["dry"] {
		t.Errorf("a dry run: %v, made: %v", err, has["dry"])
	}
	if !has["b"] {
		t.Error("b was not made")
	}
}
