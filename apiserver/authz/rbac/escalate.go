package rbac

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/auth/rbac/validation"

	"hardway/apiserver/admission"
	"hardway/apiserver/authz"
	"hardway/apiserver/request"
)

// Escalation is the admission plugin by which nobody gives away more than they have: who writes a role must hold its
// rules, or may "escalate" roles; who writes a binding must hold the rules of its role, or may "bind" it. Members of
// system:masters and the server itself are not asked.
type Escalation struct {
	Index *Index
	// Authorizer answers whether the user may escalate or bind.
	Authorizer authz.Authorizer
}

// Name is our own: upstream asks the same in its storage.
func (Escalation) Name() string { return "RBACEscalation" }

// everything are the rules that somebody must hold to write a role whose rules come from elsewhere.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

// Validate checks roles and bindings that are created or changed.
func (p Escalation) Validate(ctx context.Context, a *admission.Attributes) error {
	user := request.User(ctx)
	if user == nil || user.In(request.Masters) || a.Subresource != "" || a.Object == nil || a.Kind.Group != rbacv1.GroupName {
		return nil
	}
	switch obj := a.Object.(type) {
	case *rbacv1.Role:
		old, _ := a.Old.(*rbacv1.Role)
		if old != nil && equality.Semantic.DeepEqual(old.Rules, obj.Rules) {
			return nil
		}
		return p.role(ctx, a, user, obj.Rules)
	case *rbacv1.ClusterRole:
		old, _ := a.Old.(*rbacv1.ClusterRole)
		if old != nil && equality.Semantic.DeepEqual(old.Rules, obj.Rules) && equality.Semantic.DeepEqual(old.AggregationRule, obj.AggregationRule) {
			return nil
		}
		rules := obj.Rules
		if obj.AggregationRule != nil && (old == nil || !equality.Semantic.DeepEqual(old.AggregationRule, obj.AggregationRule)) {
			rules = everything
		}
		return p.role(ctx, a, user, rules)
	case *rbacv1.RoleBinding:
		old, _ := a.Old.(*rbacv1.RoleBinding)
		if old != nil && old.RoleRef == obj.RoleRef && equality.Semantic.DeepEqual(old.Subjects, obj.Subjects) {
			return nil
		}
		return p.binding(ctx, a, user, obj.RoleRef, obj.Namespace)
	case *rbacv1.ClusterRoleBinding:
		old, _ := a.Old.(*rbacv1.ClusterRoleBinding)
		if old != nil && old.RoleRef == obj.RoleRef && equality.Semantic.DeepEqual(old.Subjects, obj.Subjects) {
			return nil
		}
		return p.binding(ctx, a, user, obj.RoleRef, "")
	}
	return nil
}

func (p Escalation) role(ctx context.Context, a *admission.Attributes, user *request.UserInfo, rules []rbacv1.PolicyRule) error {
	if p.may(ctx, user, &request.Info{
		IsResource: true, Verb: "escalate", Group: rbacv1.GroupName, Version: "v1", Resource: a.Kind.Plural, Namespace: a.Object.GetNamespace(), Name: a.Object.GetName(),
	}) {
		return nil
	}
	return p.holds(a, user, a.Object.GetNamespace(), rules)
}

func (p Escalation) binding(ctx context.Context, a *admission.Attributes, user *request.UserInfo, ref rbacv1.RoleRef, namespace string) error {
	plural := "roles"
	if ref.Kind == "ClusterRole" {
		plural = "clusterroles"
	}
	if p.may(ctx, user, &request.Info{
		IsResource: true, Verb: "bind", Group: ref.APIGroup, Version: "*", Resource: plural, Namespace: namespace, Name: ref.Name,
	}) {
		return nil
	}
	rules, ok := p.Index.RoleRules(ref, namespace)
	if !ok {
		return apierrors.NewNotFound(rbacv1.Resource(plural), ref.Name)
	}
	return p.holds(a, user, namespace, rules)
}

func (p Escalation) may(ctx context.Context, user *request.UserInfo, info *request.Info) bool {
	d, _, err := p.Authorizer.Authorize(ctx, user, info)
	return d == authz.Allow && err == nil
}

// holds refuses rules that the user does not hold in the namespace.
func (p Escalation) holds(a *admission.Attributes, user *request.UserInfo, namespace string, rules []rbacv1.PolicyRule) error {
	own, missing := p.Index.Rules(user, namespace)
	ok, lacking := validation.Covers(own, rules)
	if ok {
		return nil
	}
	text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:", user.Name, user.Groups)
	lines := make([]string, len(lacking))
	for i := range lacking {
		lines[i] = compact(&lacking[i])
	}
	slices.Sort(lines)
	text += "\n" + strings.Join(slices.Compact(lines), "\n")
	if len(missing) > 0 {
		text += fmt.Sprintf("; resolution errors: %v", missing)
	}
	return admission.Forbid(a, "%s", text)
}

// compact is upstream's form of a rule in one line.
func compact(r *rbacv1.PolicyRule) string {
	var parts []string
	for _, f := range []struct {
		name   string
		values []string
	}{{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"NonResourceURLs", r.NonResourceURLs}, {"ResourceNames", r.ResourceNames}, {"Verbs", r.Verbs}} {
		if len(f.values) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", f.name, f.values))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
