package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"

	"hardway/shared/testenv"
)

// TestBootstrapRoles compares the roles and bindings that a new cluster of ours has with upstream's, object by object: what
// each allows, to whom, its labels, and what aggregates into it. Ours alone are those called hardway:, for the parts of
// this project that upstream does not have; they are listed in docs/differences.md.
func TestBootstrapRoles(t *testing.T) {
	have := oursRoles(t)
	want := theirRoles()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got := have[name]; got != want[name] {
			t.Errorf("%s:\nours     %s\nupstream %s", name, got, want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[name]; !ok && !strings.Contains(name, "hardway:") {
			t.Errorf("%s is not upstream's: %s", name, have[name])
		}
	}
	t.Logf("%d objects compared", len(want))
}

// policy is what roles and bindings say, by kind, namespace and name.
type policy map[string]string

func oursRoles(t *testing.T) policy {
	t.Helper()
	api, err := kubernetes.NewForConfig(testenv.Start(t, "--authorization-mode=Node,RBAC").Config())
	if err != nil {
		t.Fatal(err)
	}
	rbac, all := api.RbacV1(), metav1.ListOptions{}
	clusterRoles, err := rbac.ClusterRoles().List(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	bindings, err := rbac.ClusterRoleBindings().List(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	roles, err := rbac.Roles("").List(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	inNamespaces, err := rbac.RoleBindings("").List(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	p := policy{}
	p.add(clusterRoles.Items, bindings.Items)
	p.addNamespaced(roles.Items, inNamespaces.Items)
	return p
}

func theirRoles() policy {
	p := policy{}
	p.add(slices.Concat(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()),
		slices.Concat(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()))
	p.addNamespaced(slices.Concat(slices.Collect(maps.Values(bootstrappolicy.NamespaceRoles()))...),
		slices.Concat(slices.Collect(maps.Values(bootstrappolicy.NamespaceRoleBindings()))...))
	return p
}

func (p policy) add(roles []rbacv1.ClusterRole, bindings []rbacv1.ClusterRoleBinding) {
	for _, r := range roles {
		p["clusterrole "+r.Name] = fmt.Sprint(about(r.ObjectMeta), aggregates(r), allowed(r.Rules))
		if r.AggregationRule != nil {
			p["clusterrole "+r.Name+", aggregated"] = fmt.Sprint(allowed(aggregated(roles, r)))
		}
	}
	for _, b := range bindings {
		p["clusterrolebinding "+b.Name] = fmt.Sprint(about(b.ObjectMeta), b.RoleRef, people(b.Subjects))
	}
}

func (p policy) addNamespaced(roles []rbacv1.Role, bindings []rbacv1.RoleBinding) {
	for _, r := range roles {
		p["role "+r.Namespace+"/"+r.Name] = fmt.Sprint(about(r.ObjectMeta), allowed(r.Rules))
	}
	for _, b := range bindings {
		p["rolebinding "+b.Namespace+"/"+b.Name] = fmt.Sprint(about(b.ObjectMeta), b.RoleRef, people(b.Subjects))
	}
}

func about(m metav1.ObjectMeta) string { return fmt.Sprint(m.Labels, m.Annotations) }

func aggregates(r rbacv1.ClusterRole) (out []string) {
	if r.AggregationRule != nil {
		for _, s := range r.AggregationRule.ClusterRoleSelectors {
			out = append(out, metav1.FormatLabelSelector(&s))
		}
	}
	return out
}

// aggregated is what the controllers put into an aggregated role, of any depth.
func aggregated(roles []rbacv1.ClusterRole, into rbacv1.ClusterRole) (rules []rbacv1.PolicyRule) {
	for _, s := range into.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		if err != nil {
			panic(err)
		}
		for _, r := range roles {
			if r.Name == into.Name || !selector.Matches(labels.Set(r.Labels)) {
				continue
			}
			rules = append(rules, r.Rules...)
			if r.AggregationRule != nil {
				rules = append(rules, aggregated(roles, r)...)
			}
		}
	}
	return rules
}

func people(subjects []rbacv1.Subject) []string {
	var out []string
	for _, s := range subjects {
		out = append(out, fmt.Sprintf("%s %s %s/%s", s.APIGroup, s.Kind, s.Namespace, s.Name))
	}
	slices.Sort(out)
	return out
}

// allowed takes rules apart into single permissions: how they are grouped does not matter.
func allowed(rules []rbacv1.PolicyRule) []string {
	single := map[string]bool{}
	for _, r := range rules {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{"*"}
		}
		for _, verb := range r.Verbs {
			for _, url := range r.NonResourceURLs {
				single[verb+" "+url] = true
			}
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					for _, name := range names {
						single[fmt.Sprintf("%s %s.%s %s", verb, resource, group, name)] = true
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(single))
}
