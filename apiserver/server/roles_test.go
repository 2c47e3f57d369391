package server

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"hardway/apiserver/authz/rbac/policy"
)

// Upstream's API server makes its own roles; what is printed for it is what it lacks, and every binding finds its role.
func TestRoles(t *testing.T) {
	there := map[string]bool{}
	for _, r := range policy.Default().ClusterRoles {
		there[r.Name] = true
	}
	var dns, controllers bool
	for _, o := range roleObjects(policy.Own()) {
		kind := o.GetObjectKind().GroupVersionKind()
		if kind.Group != rbacv1.GroupName || kind.Kind == "" {
			t.Errorf("%T has the kind %v", o, kind)
		}
		b, ok := o.(*rbacv1.ClusterRoleBinding)
		if !ok {
			continue
		}
		if !there[b.RoleRef.Name] {
			t.Errorf("%s binds %s, which is nowhere", b.Name, b.RoleRef.Name)
		}
		dns = dns || b.Name == "system:hardway-dns"
		controllers = controllers || strings.HasPrefix(b.Name, "hardway:controller:") && b.Subjects[0].Name == "system:kube-controller-manager"
	}
	if !dns || !controllers {
		t.Errorf("the DNS server's binding: %t, the controllers': %t", dns, controllers)
	}
}
