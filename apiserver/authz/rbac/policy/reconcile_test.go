package policy

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/resource"
)

// shelf keeps objects of one kind, and what was done to them.
type shelf struct {
	mu     sync.Mutex
	gr     schema.GroupResource
	has    map[string]resource.Object // by key
	writes []string
	broken string // the name of an object that cannot be made
}

// key is a name, with its namespace where there is one.
func key(namespace, name string) string { return strings.TrimPrefix(namespace+"/"+name, "/") }

func (s *shelf) Find(_ context.Context, namespace, name string) (resource.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.has[key(namespace, name)]; o != nil {
		return o, nil
	}
	return nil, apierrors.NewNotFound(s.gr, name)
}

func (s *shelf) Create(_ context.Context, obj resource.Object, _ *metav1.CreateOptions) (resource.Object, []string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if obj.GetName() == s.broken {
		return nil, nil, errors.New("no space")
	}
	at := key(obj.GetNamespace(), obj.GetName())
	if s.has[at] != nil {
		return nil, nil, apierrors.NewAlreadyExists(s.gr, obj.GetName())
	}
	s.has[at] = obj
	s.writes = append(s.writes, "create "+obj.GetName())
	return obj, nil, nil
}

func (s *shelf) Update(_ context.Context, namespace, name, _ string, change func(resource.Object) (resource.Object, error), _ *metav1.UpdateOptions, _ bool) (resource.Object, bool, []string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := key(namespace, name)
	obj, err := change(s.has[at].DeepCopyObject().(resource.Object)) //nolint:forcetypeassert // a copy is of the same type
	if err == nil {
		s.has[at] = obj
		s.writes = append(s.writes, "update "+name)
	}
	return obj, false, nil, err
}

func (s *shelf) Delete(_ context.Context, namespace, name string, _ *metav1.DeleteOptions) (resource.Object, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = append(s.writes, "delete "+name)
	at := key(namespace, name)
	obj := s.has[at]
	delete(s.has, at)
	return obj, true, nil
}

type shelves map[string]*shelf

func (s shelves) of(gr schema.GroupResource) Registry {
	return s[gr.Resource]
}

func empty() shelves {
	out := shelves{}
	for _, plural := range []string{"roles", "clusterroles", "rolebindings", "clusterrolebindings"} {
		out[plural] = &shelf{gr: schema.GroupResource{Group: rbacv1.GroupName, Resource: plural}, has: map[string]resource.Object{}}
	}
	return out
}

func (s shelves) forget() {
	for _, one := range s {
		one.writes = nil
	}
}

func TestReconcile(t *testing.T) {
	p, s := Default(), empty()
	if err := p.Reconcile(t.Context(), s.of); err != nil {
		t.Fatal(err)
	}
	if got, want := len(s["clusterroles"].has), len(p.ClusterRoles); got != want || want < 50 {
		t.Errorf("%d cluster roles, want %d", got, want)
	}
	s.forget()
	if err := p.Reconcile(t.Context(), s.of); err != nil {
		t.Fatal(err)
	}
	for plural, one := range s {
		if len(one.writes) > 0 {
			t.Errorf("%s: a second time did %v", plural, one.writes)
		}
	}

	role := func(name string) *rbacv1.ClusterRole { return s["clusterroles"].has[name].(*rbacv1.ClusterRole) }
	binding := func(name string) *rbacv1.ClusterRoleBinding {
		return s["clusterrolebindings"].has[name].(*rbacv1.ClusterRoleBinding)
	}
	own := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"x.io"}, Resources: []string{"own"}}
	role("system:kube-scheduler").Rules = []rbacv1.PolicyRule{own}
	role("system:node").Rules, role("system:node").Annotations = nil, map[string]string{AutoUpdate: "false"}
	binding("system:kube-scheduler").Subjects = []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "me"}}
	binding("cluster-admin").RoleRef.Name = "view"
	delete(s["roles"].has, "kube-system/extension-apiserver-authentication-reader")
	s.forget()
	if err := p.Reconcile(t.Context(), s.of); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for plural, one := range s {
		if slices.Sort(one.writes); len(one.writes) > 0 {
			got[plural] = one.writes
		}
	}
	want := map[string][]string{
		"clusterroles": {"update system:kube-scheduler"}, "roles": {"create extension-apiserver-authentication-reader"},
		"clusterrolebindings": {"create cluster-admin", "delete cluster-admin", "update system:kube-scheduler"},
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("did %v, want %v", got, want)
	}
	if rules := role("system:kube-scheduler").Rules; len(rules) < 2 || !reflect.DeepEqual(rules[0], own) {
		t.Error("the own rule is gone, or the policy's are not back")
	}
	if role("system:node").Rules != nil {
		t.Error("a role that is not to be updated was")
	}
	if n := len(binding("system:kube-scheduler").Subjects); n != 2 {
		t.Errorf("%d subjects, want the own and the policy's", n)
	}
	if binding("cluster-admin").RoleRef.Name != "cluster-admin" {
		t.Error("cluster-admin is still bound to another role")
	}
}

func TestReconcileFails(t *testing.T) {
	s := empty()
	s["clusterroles"].broken = "view"
	if err := Default().Reconcile(t.Context(), s.of); err == nil || len(s["clusterrolebindings"].has) > 0 {
		t.Errorf("%v, %d bindings were made all the same", err, len(s["clusterrolebindings"].has))
	}
}
