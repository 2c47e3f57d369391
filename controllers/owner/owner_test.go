package owner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

func object(name, controller string, labels map[string]string, deleting bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: labels}}
	if controller != "" {
		p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(controller), Controller: new(true)}}
	}
	if deleting {
		p.DeletionTimestamp = &metav1.Time{}
	}
	return p
}

var (
	web   = map[string]string{"app": "web"}
	other = map[string]string{"app": "other"}
	match = labels.SelectorFromSet(web)
)

func TestJudge(t *testing.T) {
	living, dying := object("owner", "", nil, false), object("owner", "", nil, true)
	tests := []struct {
		name      string
		owner     *corev1.Pod
		candidate *corev1.Pod
		want      Verdict
	}{
		{"mine", living, object("p", "owner", web, false), Keep},
		{"mine, going", living, object("p", "owner", web, true), Keep},
		{"mine, other labels", living, object("p", "owner", other, false), Release},
		{"somebody else's", living, object("p", "x", web, false), Ignore},
		{"orphan", living, object("p", "", web, false), Adopt},
		{"orphan, other labels", living, object("p", "", other, false), Ignore},
		{"orphan, going", living, object("p", "", web, true), Ignore},
		{"a dying owner keeps", dying, object("p", "owner", web, false), Keep},
		{"a dying owner adopts nothing", dying, object("p", "", web, false), Ignore},
		{"a dying owner releases nothing", dying, object("p", "owner", other, false), Ignore},
	}
	for _, tt := range tests {
		if got := Judge(tt.owner, tt.candidate, match); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestClaim(t *testing.T) {
	notFound := apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "x")
	candidates := []*corev1.Pod{object("kept", "owner", web, false), object("released", "owner", other, false), object("adopted", "", web, false), object("vanished", "", web, false)}
	for _, tt := range []struct {
		name    string
		fresh   *corev1.Pod
		fail    error
		want    string
		problem string
		patches int
	}{
		{"all well", object("owner", "", nil, false), nil, "[kept adopted]", "", 3},
		{"the owner is going", object("owner", "", nil, true), nil, "[kept]", "adopts nothing", 1},
		{"the owner is another one", object("another", "", nil, false), nil, "[kept]", "is another object", 1},
		{"the server fails", object("owner", "", nil, false), errors.New("down"), "[kept]", "down", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			patches := 0
			c := Claimer{
				Owner: object("owner", "", nil, false), Ref: metav1.OwnerReference{UID: "owner", Kind: "ReplicaSet"},
				Fresh: func(context.Context) (metav1.Object, error) { return tt.fresh, nil },
				Patch: func(_ context.Context, name string, patch []byte) error {
					patches++
					if !strings.Contains(string(patch), fmt.Sprintf(`"uid":%q`, name)) {
						t.Errorf("patch of %s does not name its uid: %s", name, patch)
					}
					if name == "vanished" {
						return notFound
					}
					return tt.fail
				},
			}
			got, err := Claim(t.Context(), c, match, candidates)
			names := []string{}
			for _, p := range got {
				names = append(names, p.Name)
			}
			if fmt.Sprint(names) != tt.want || patches != tt.patches || (tt.problem == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tt.problem)) {
				t.Errorf("kept %v, %d patches, %v", names, patches, err)
			}
		})
	}
}
