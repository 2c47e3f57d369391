package aggregation

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPlan(t *testing.T) {
	rule := func(resource string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}}
	}
	role := func(name, label string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"to": label}}, Rules: rules}
	}
	view := role("view", "view", rule("stale"))
	view.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"to": "view"}}}}
	all := []*rbacv1.ClusterRole{role("b", "view", rule("pods"), rule("nodes")), view, role("a", "view", rule("pods"), rule("services")), role("c", "edit", rule("secrets"))}
	got, err := plan(view, all)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range got {
		names = append(names, r.Resources[0])
	}
	if len(names) != 3 || names[0] != "pods" || names[1] != "services" || names[2] != "nodes" {
		t.Errorf("%v: by the roles' names, each rule once, and not its own", names)
	}
	view.AggregationRule.ClusterRoleSelectors[0].MatchLabels = map[string]string{"a b": "c"}
	if _, err := plan(view, all); err == nil {
		t.Error("a bad selector")
	}
}
