package namespacelifecycle

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/resource"
)

// phases are namespaces and their phases.
type phases map[string]corev1.NamespacePhase

func (p phases) Find(_ context.Context, _, name string) (resource.Object, error) {
	phase, ok := p[name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, name)
	}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NamespaceStatus{Phase: phase}}, nil
}

func TestPlugin(t *testing.T) {
	pods := &resource.Kind{Names: resource.Names{Plural: "pods", Kind: "Pod"}}
	namespaces := &resource.Kind{Names: resource.Names{Plural: "namespaces", Kind: "Namespace"}}
	p := Plugin{phases{"live": corev1.NamespaceActive, "dying": corev1.NamespaceTerminating}}
	for _, row := range []struct {
		name      string
		op        admission.Operation
		kind      *resource.Kind
		namespace string
		object    string
		want      string
	}{
		{"create in a live namespace", admission.Create, pods, "live", "x", ""},
		{"create in an absent namespace", admission.Create, pods, "none", "x", `namespaces "none" not found`},
		{"create in a dying namespace", admission.Create, pods, "dying", "x",
			`pods "x" is forbidden: unable to create new content in namespace dying because it is being terminated`},
		{"update in a dying namespace", admission.Update, pods, "dying", "x", ""},
		{"update in an absent namespace", admission.Update, pods, "none", "x", `namespaces "none" not found`},
		{"delete in an absent namespace", admission.Delete, pods, "none", "x", ""},
		{"create outside namespaces", admission.Create, pods, "", "x", ""},
		{"create a namespace", admission.Create, namespaces, "", "none", ""},
		{"delete a namespace", admission.Delete, namespaces, "", "live", ""},
		{"delete default", admission.Delete, namespaces, "", "default", `namespaces "default" is forbidden: this namespace may not be deleted`},
		{"delete kube-system", admission.Delete, namespaces, "", "kube-system", `namespaces "kube-system" is forbidden: this namespace may not be deleted`},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := p.Mutate(t.Context(), &admission.Attributes{Operation: row.op, Kind: row.kind, Namespace: row.namespace, Name: row.object})
			if got := text(err); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
			if row.namespace == "dying" && err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				t.Error("the cause is missing")
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
