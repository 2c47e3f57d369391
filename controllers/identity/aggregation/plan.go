package aggregation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// plan returns the rules that a role gets from the others that its selectors choose: by name, each rule once.
func plan(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	chosen := map[string]*rbacv1.ClusterRole{}
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("selector %d of ClusterRole %s: %w", i, role.Name, err)
		}
		for _, r := range all {
			if r.Name != role.Name && selector.Matches(labels.Set(r.Labels)) {
				chosen[r.Name] = r
			}
		}
	}
	var rules []rbacv1.PolicyRule
	for _, r := range slices.SortedFunc(maps.Values(chosen), func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) }) {
		for _, rule := range r.Rules {
			if !slices.ContainsFunc(rules, func(have rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(have, rule) }) {
				rules = append(rules, rule)
			}
		}
	}
	return rules, nil
}
