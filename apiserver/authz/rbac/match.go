package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"hardway/apiserver/request"
)

// allows says whether one rule allows a request.
func allows(r *rbacv1.PolicyRule, info *request.Info) bool {
	if !has(r.Verbs, info.Verb) {
		return false
	}
	if !info.IsResource {
		return slices.ContainsFunc(r.NonResourceURLs, func(pattern string) bool { return covers(pattern, info.Path) })
	}
	return has(r.APIGroups, info.Group) && hasResource(r.Resources, info.Resource, info.Subresource) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, info.Name))
}

// has looks for a word, or the asterisk that stands for all.
func has(words []string, word string) bool {
	for _, w := range words {
		if w == "*" || w == word {
			return true
		}
	}
	return false
}

// hasResource looks for pods/log in words such as "pods/log", "*/log" and "*".
func hasResource(words []string, plural, sub string) bool {
	for _, w := range words {
		if w == "*" || sub == "" && w == plural {
			return true
		}
		if sub == "" {
			continue
		}
		if head, tail, ok := strings.Cut(w, "/"); ok && tail == sub && (head == "*" || head == plural) {
			return true
		}
	}
	return false
}

// covers compares a path with a pattern, which may end in an asterisk.
func covers(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path
}

// RulesAllow makes the question whether a list of rules allows a request.
func RulesAllow(rules []rbacv1.PolicyRule) func(info *request.Info) bool {
	return func(info *request.Info) bool {
		return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return allows(&r, info) })
	}
}
