// Command policy prints what hardway/apiserver/authz/rbac/policy/upstream.txt holds below its header: upstream's published
// roles, run as `GOWORK=off go run .` in this folder, which is a module of its own because it brings in k8s.io/kubernetes.
package main

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

func main() {
	for _, r := range append(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()...) {
		fmt.Printf("clusterrole %s\n", r.Name)
		meta(r.Labels)
		if r.AggregationRule != nil {
			for _, s := range r.AggregationRule.ClusterRoleSelectors {
				for k, v := range s.MatchLabels {
					fmt.Printf("  aggregate %s=%s\n", k, v)
				}
			}
		}
		rules(r.Rules)
	}
	for _, b := range append(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()...) {
		fmt.Printf("clusterrolebinding %s = %s\n", b.Name, b.RoleRef.Name)
		subjects(b.Subjects)
	}
	roles := bootstrappolicy.NamespaceRoles()
	for _, ns := range keys(roles) {
		for _, r := range roles[ns] {
			fmt.Printf("role %s/%s\n", ns, r.Name)
			rules(r.Rules)
		}
	}
	bindings := bootstrappolicy.NamespaceRoleBindings()
	for _, ns := range keys(bindings) {
		for _, b := range bindings[ns] {
			fmt.Printf("rolebinding %s/%s = %s/%s\n", ns, b.Name, b.RoleRef.Kind, b.RoleRef.Name)
			subjects(b.Subjects)
		}
	}
}

func keys[T any](m map[string]T) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func meta(labels map[string]string) {
	for _, k := range keys(labels) {
		if k != "kubernetes.io/bootstrapping" {
			fmt.Printf("  label %s=%s\n", k, labels[k])
		}
	}
}

func rules(rs []rbacv1.PolicyRule) {
	var lines []string
	for _, r := range rs {
		verbs := slices.Clone(r.Verbs)
		sort.Strings(verbs)
		if len(r.NonResourceURLs) > 0 {
			urls := slices.Clone(r.NonResourceURLs)
			sort.Strings(urls)
			lines = append(lines, fmt.Sprintf("  url %s: %s", strings.Join(urls, " "), strings.Join(verbs, " ")))
			continue
		}
		groups := slices.Clone(r.APIGroups)
		sort.Strings(groups)
		for i := range groups {
			if groups[i] == "" {
				groups[i] = "core"
			}
		}
		res := slices.Clone(r.Resources)
		sort.Strings(res)
		names := ""
		if len(r.ResourceNames) > 0 {
			n := slices.Clone(r.ResourceNames)
			sort.Strings(n)
			names = " [" + strings.Join(n, " ") + "]"
		}
		lines = append(lines, fmt.Sprintf("  %s %s%s: %s", strings.Join(groups, ","), strings.Join(res, " "), names, strings.Join(verbs, " ")))
	}
	for _, l := range lines {
		fmt.Println(l)
	}
}

func subjects(ss []rbacv1.Subject) {
	for _, s := range ss {
		name := s.Name
		if s.Kind == "ServiceAccount" {
			name = s.Namespace + "/" + s.Name
		}
		fmt.Printf("  %s %s\n", strings.ToLower(s.Kind), name)
	}
}
