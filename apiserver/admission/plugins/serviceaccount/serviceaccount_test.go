package serviceaccount

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/resource"
)

var kind = &resource.Kind{Names: resource.Names{Plural: "pods", Kind: "Pod"}}

// accounts are there from a moment on.
type accounts map[string]time.Time

func (a accounts) Find(_ context.Context, _, name string) (resource.Object, error) {
	since, ok := a[name]
	if !ok || time.Now().Before(since) {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccounts"}, name)
	}
	return &corev1.ServiceAccount{
		ObjectMeta:       metav1.ObjectMeta{Name: name},
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "registry"}},
	}, nil
}

func TestPlugin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, row := range []struct {
			name     string
			accounts accounts
			pod      corev1.Pod
			want     string // account, or the error
		}{
			{"default", accounts{"default": now}, corev1.Pod{}, "default"},
			{"default that comes in a moment", accounts{"default": now.Add(700 * time.Millisecond)}, corev1.Pod{}, "default"},
			{"named", accounts{"robot": now}, corev1.Pod{Spec: corev1.PodSpec{ServiceAccountName: "robot"}}, "robot"},
			{"absent", accounts{"default": now}, corev1.Pod{Spec: corev1.PodSpec{ServiceAccountName: "robot"}},
				`pods "p" is forbidden: error looking up service account ns/robot: serviceaccounts "robot" not found`},
			{"no default", accounts{}, corev1.Pod{},
				`pods "p" is forbidden: error looking up service account ns/default: serviceaccounts "default" not found`},
			{"mirror", accounts{}, mirror(""), ""},
			{"mirror with an account", accounts{}, mirror("default"), `pods "p" is forbidden: a mirror pod may not reference service accounts`},
		} {
			a := &admission.Attributes{Operation: admission.Create, Kind: kind, Namespace: "ns", Name: "p", Object: &row.pod}
			err := Plugin{Accounts: row.accounts}.Mutate(t.Context(), a)
			got := row.pod.Spec.ServiceAccountName
			if err != nil {
				got = err.Error()
			}
			if got != row.want {
				t.Errorf("%s: got %q, want %q", row.name, got, row.want)
			}
			if err == nil && row.want != "" && (row.pod.Spec.DeprecatedServiceAccount != row.want || len(row.pod.Spec.ImagePullSecrets) != 1) {
				t.Errorf("%s: %+v", row.name, row.pod.Spec)
			}
		}
	})
}

func mirror(account string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"}},
		Spec:       corev1.PodSpec{ServiceAccountName: account},
	}
}
