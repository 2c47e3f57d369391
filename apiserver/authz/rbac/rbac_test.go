package rbac

import (
	"context"
	"fmt"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/authz"
	"hardway/apiserver/authz/rbac/policy"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// policyIndex holds the roles that every cluster has, and some people.
func policyIndex() *Index {
	x := New()
	p := policy.Default()
	for _, o := range p.ClusterRoles {
		x.Changed(nil, o)
	}
	for _, o := range p.ClusterRoleBindings {
		x.Changed(nil, o)
	}
	x.Changed(nil, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "pods"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods", "*/scale"}},
		{Verbs: []string{"*"}, APIGroups: []string{"apps"}, Resources: []string{"*"}, ResourceNames: []string{"web"}},
	}})
	x.Changed(nil, bind("dev", "Role", "pods", rbacv1.Subject{Kind: "User", Name: "jane"}, rbacv1.Subject{Kind: "ServiceAccount", Name: "robot"}))
	x.Changed(nil, bind("dev", "ClusterRole", "absent", rbacv1.Subject{Kind: "User", Name: "joe"}))
	return x
}

func bind(namespace, kind, role string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: role}, Subjects: subjects,
	}
}

func TestAuthorize(t *testing.T) {
	x := policyIndex()
	jane := &request.UserInfo{Name: "jane", Groups: []string{request.Authenticated}}
	robot := &request.UserInfo{Name: "system:serviceaccount:dev:robot"}
	scheduler := &request.UserInfo{Name: "system:kube-scheduler"}
	res := func(verb, group, plural, sub, namespace, name string) *request.Info {
		return &request.Info{IsResource: true, Verb: verb, Group: group, Resource: plural, Subresource: sub, Namespace: namespace, Name: name}
	}
	for name, row := range map[string]struct {
		user   *request.UserInfo
		info   *request.Info
		want   authz.Decision
		reason string
	}{
		"a role's resource":             {jane, res("list", "", "pods", "", "dev", ""), authz.Allow, `RBAC: allowed by RoleBinding "pods/dev" of Role "pods" to User "jane"`},
		"in another namespace":          {jane, res("list", "", "pods", "", "ops", ""), authz.NoOpinion, ""},
		"everywhere":                    {jane, res("list", "", "pods", "", "", ""), authz.NoOpinion, ""},
		"another verb":                  {jane, res("delete", "", "pods", "", "dev", "p"), authz.NoOpinion, ""},
		"a subresource is another word": {jane, res("get", "", "pods", "log", "dev", "p"), authz.NoOpinion, ""},
		"a subresource of all":          {jane, res("get", "", "deployments", "scale", "dev", "web"), authz.Allow, ""},
		"a named object":                {jane, res("delete", "apps", "deployments", "", "dev", "web"), authz.Allow, ""},
		"another object":                {jane, res("delete", "apps", "deployments", "", "dev", "web2"), authz.NoOpinion, ""},
		"a create has no name":          {jane, res("create", "apps", "deployments", "", "dev", ""), authz.NoOpinion, ""},
		"an account of the namespace":   {robot, res("get", "", "pods", "", "dev", "p"), authz.Allow, ""},
		"a path by group":               {jane, &request.Info{Verb: "get", Path: "/openapi/v3"}, authz.Allow, `RBAC: allowed by ClusterRoleBinding "system:discovery" of ClusterRole "system:discovery" to Group "system:authenticated"`},
		"another path":                  {jane, &request.Info{Verb: "get", Path: "/metrics"}, authz.NoOpinion, ""},
		"a daemon's role":               {scheduler, res("create", "", "pods", "binding", "dev", "p"), authz.Allow, ""},
		"not a daemon's role":           {scheduler, res("get", "", "secrets", "", "dev", "s"), authz.NoOpinion, ""},
		"a role that is missing":        {&request.UserInfo{Name: "joe"}, res("get", "", "pods", "", "dev", "p"), authz.NoOpinion, `RBAC: clusterrole.rbac.authorization.k8s.io "absent" not found`},
		"nobody":                        {nil, res("get", "", "pods", "", "dev", "p"), authz.NoOpinion, ""},
	} {
		d, reason, err := x.Authorize(t.Context(), row.user, row.info)
		if d != row.want || row.reason != "" && reason != row.reason || err != nil {
			t.Errorf("%s: %v %q %v", name, d, reason, err)
		}
	}
	old := bind("dev", "Role", "pods", rbacv1.Subject{Kind: "User", Name: "jane"})
	x.Changed(old, nil)
	if d, _, _ := x.Authorize(t.Context(), jane, res("list", "", "pods", "", "dev", "")); d != authz.NoOpinion {
		t.Error("a binding that was deleted still gives something")
	}
}

func TestNobodyGivesMoreThanTheyHave(t *testing.T) {
	x := policyIndex()
	p := Escalation{Index: x, Authorizer: x}
	x.Changed(nil, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "boss"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"escalate", "bind"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"*"}}}})
	x.Changed(nil, bind("dev", "ClusterRole", "boss", rbacv1.Subject{Kind: "User", Name: "boss"}))
	role := func(rules ...rbacv1.PolicyRule) resource.Object {
		return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "r"}, Rules: rules}
	}
	read := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}
	all := rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}
	for name, row := range map[string]struct {
		user, groups string
		old, obj     resource.Object
		refusal      string
	}{
		"rules one holds":            {user: "jane", obj: role(read)},
		"rules one does not hold":    {user: "jane", obj: role(read, all), refusal: `{APIGroups:["*"], Resources:["*"], Verbs:["*"]}`},
		"unchanged rules":            {user: "jane", old: role(all), obj: role(all)},
		"changed rules":              {user: "jane", old: role(read), obj: role(all), refusal: "not currently held"},
		"escalation":                 {user: "boss", obj: role(all)},
		"masters":                    {user: "x", groups: request.Masters, obj: role(all)},
		"aggregation":                {user: "jane", obj: &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "r"}, AggregationRule: &rbacv1.AggregationRule{}}, refusal: "not currently held"},
		"a role one holds":           {user: "jane", obj: bind("dev", "Role", "pods")},
		"a role one does not hold":   {user: "jane", obj: bind("dev", "ClusterRole", "cluster-admin"), refusal: "not currently held"},
		"a role that is not there":   {user: "jane", obj: bind("dev", "ClusterRole", "absent"), refusal: "not found"},
		"a role one may bind":        {user: "boss", obj: bind("dev", "ClusterRole", "cluster-admin")},
		"bound in another namespace": {user: "boss", obj: bind("ops", "ClusterRole", "cluster-admin"), refusal: "not currently held"},
	} {
		user := &request.UserInfo{Name: row.user, Groups: strings.Fields(row.groups)}
		a := &admission.Attributes{Kind: &resource.Kind{Names: resource.Names{Group: rbacv1.GroupName, Plural: "roles"}}, Object: row.obj, Old: row.old}
		err := p.Validate(request.With(t.Context(), &request.State{User: user}), a)
		if (err == nil) != (row.refusal == "") || err != nil && !strings.Contains(err.Error(), row.refusal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// BenchmarkAuthorize: 2,000 roles and 5,000 bindings.
func BenchmarkAuthorize(b *testing.B) {
	x := policyIndex()
	for i := range 2000 {
		x.Changed(nil, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("r", i)}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"pods", "services", "secrets"}}}})
	}
	for i := range 5000 {
		o := bind(fmt.Sprint("ns", i%500), "ClusterRole", fmt.Sprint("r", i%2000), rbacv1.Subject{Kind: "User", Name: fmt.Sprint("u", i%100)}, rbacv1.Subject{Kind: "Group", Name: "devs"})
		o.Name = fmt.Sprint("b", i)
		x.Changed(nil, o)
	}
	user := &request.UserInfo{Name: "u7", Groups: []string{"devs", request.Authenticated}}
	info := &request.Info{IsResource: true, Verb: "delete", Resource: "pods", Namespace: "ns7"}
	for b.Loop() {
		if d, _, _ := x.Authorize(context.Background(), user, info); d == authz.Allow {
			b.Fatal("allowed")
		}
	}
}
