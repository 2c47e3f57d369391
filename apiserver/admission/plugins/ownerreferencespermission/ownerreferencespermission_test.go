package ownerreferencespermission

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hardway/apiserver/admission"
	"hardway/apiserver/authz"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/request"
)

// grants allows "verb namespace/resource/subresource/name".
type grants []string

func (g grants) Authorize(_ context.Context, _ *request.UserInfo, i *request.Info) (authz.Decision, string, error) {
	for _, one := range g {
		if one == i.Verb+" "+strings.Join([]string{i.Namespace, i.Resource, i.Subresource, i.Name}, "/") {
			return authz.Allow, "", nil
		}
	}
	return authz.NoOpinion, "no", nil
}

func owner(kind, name string, blocks bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: kind, Name: name, UID: types.UID(name), BlockOwnerDeletion: &blocks}
}

func TestValidate(t *testing.T) {
	type refs = []metav1.OwnerReference
	const del, notDeletable = "delete ns/configmaps//c", "cannot set an ownerRef on a resource you can't delete"
	for name, c := range map[string]struct {
		may      grants
		created  bool
		old, now refs
		want     string
	}{
		"unchanged":                 {nil, false, refs{owner("Node", "a", true)}, refs{owner("Node", "a", true)}, ""},
		"made with an owner":        {nil, true, nil, refs{owner("Pod", "p", false)}, ""},
		"an owner comes":            {nil, false, nil, refs{owner("Pod", "p", false)}, notDeletable},
		"an owner goes":             {nil, false, refs{owner("Pod", "p", false)}, nil, notDeletable},
		"may delete":                {grants{del}, false, nil, refs{owner("Pod", "p", false)}, ""},
		"blocks its owner":          {nil, true, nil, refs{owner("Pod", "p", true)}, "you can't set finalizers on"},
		"may set its finalizers":    {grants{"update ns/pods/finalizers/p"}, true, nil, refs{owner("Pod", "p", true)}, ""},
		"finalizers of a node":      {grants{"update /nodes/finalizers/n"}, true, nil, refs{owner("Node", "n", true)}, ""},
		"finalizers of anything":    {grants{"update /*/finalizers/*"}, true, nil, refs{owner("Pod", "p", true)}, ""},
		"begins to block":           {grants{del}, false, refs{owner("Pod", "p", false)}, refs{owner("Pod", "p", true)}, "you can't set finalizers on"},
		"blocks as before":          {grants{del}, false, refs{owner("Pod", "p", true)}, refs{owner("Pod", "p", true), owner("Pod", "q", false)}, ""},
		"an owner of unknown kind":  {nil, true, nil, refs{owner("Ghost", "g", true)}, "cannot find RESTMapping for APIVersion v1 Kind Ghost"},
		"unknown, but all is given": {grants{"update /*/finalizers/*"}, true, nil, refs{owner("Ghost", "g", true)}, ""},
	} {
		p := Plugin{c.may, func(gvk schema.GroupVersionKind) (string, bool, bool) {
			return strings.ToLower(gvk.Kind) + "s", gvk.Kind == "Pod", gvk.Kind != "Ghost"
		}}
		a := &admission.Attributes{Kind: core.ConfigMap, Operation: admission.Create, Namespace: "ns", Name: "c", Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{OwnerReferences: c.now}}}
		if !c.created {
			a.Operation, a.Old = admission.Update, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{OwnerReferences: c.old}}
		}
		err := p.Validate(t.Context(), a)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
