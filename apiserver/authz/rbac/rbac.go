// Package rbac decides by roles: a rule says what may be done, a role is a list of rules, a binding gives a role to
// users, groups and service accounts, in one namespace or everywhere.
//
// It reads the four kinds of rbac.authorization.k8s.io as they change and keeps them by subject, so that a decision
// looks only at the bindings of the one who asks: its cost does not grow with the number of roles and bindings. There
// are no denials: what no rule allows is left to the next authorizer. A binding whose role is missing gives nothing.
package rbac

import (
	"context"
	"fmt"
	"slices"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"

	"hardway/apiserver/authz"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// Index is the roles and bindings of the cluster, by subject. It is safe for concurrent use.
type Index struct {
	mu    sync.RWMutex                      // guards what follows
	roles map[roleKey][]rbacv1.PolicyRule   // shared with the cache: read only
	by    map[string]map[subject][]*binding // by namespace, "" for those that hold everywhere
}

// roleKey names a Role, or with an empty namespace a ClusterRole.
type roleKey struct{ namespace, name string }

// subject is a user or a group by name. Service accounts are users.
type subject struct {
	group bool
	name  string
}

// binding is one RoleBinding or ClusterRoleBinding.
type binding struct {
	namespace, name string
	role            roleKey
	subjects        []rbacv1.Subject
}

// New makes an empty index: it allows nothing.
func New() *Index {
	return &Index{roles: map[roleKey][]rbacv1.PolicyRule{}, by: map[string]map[subject][]*binding{}}
}

// Changed takes a change of an object of one of the four kinds: old is nil for a new one, now for one that is gone.
func (x *Index) Changed(old, now resource.Object) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch o := either(old, now).(type) {
	case *rbacv1.Role, *rbacv1.ClusterRole:
		key := roleKey{o.GetNamespace(), o.GetName()}
		if now == nil {
			delete(x.roles, key)
			return
		}
		x.roles[key] = rulesOf(now)
	case *rbacv1.RoleBinding, *rbacv1.ClusterRoleBinding:
		if old != nil {
			x.remove(bindingOf(old))
		}
		if now != nil {
			x.add(bindingOf(now))
		}
	}
}

func either(old, now resource.Object) resource.Object {
	if now != nil {
		return now
	}
	return old
}

func rulesOf(o resource.Object) []rbacv1.PolicyRule {
	switch role := o.(type) {
	case *rbacv1.Role:
		return role.Rules
	case *rbacv1.ClusterRole:
		return role.Rules
	}
	return nil
}

func bindingOf(o resource.Object) *binding {
	switch b := o.(type) {
	case *rbacv1.RoleBinding:
		return &binding{b.Namespace, b.Name, refKey(b.RoleRef, b.Namespace), b.Subjects}
	case *rbacv1.ClusterRoleBinding:
		return &binding{"", b.Name, refKey(b.RoleRef, ""), b.Subjects}
	}
	return &binding{}
}

// refKey is the role that a reference in a namespace means.
func refKey(ref rbacv1.RoleRef, namespace string) roleKey {
	if ref.Kind == "ClusterRole" {
		namespace = ""
	}
	return roleKey{namespace, ref.Name}
}

// keys are the subjects of a binding.
func (b *binding) keys() []subject {
	out := make([]subject, 0, len(b.subjects))
	for _, s := range b.subjects {
		var key subject
		switch s.Kind {
		case rbacv1.UserKind:
			key = subject{name: s.Name}
		case rbacv1.GroupKind:
			key = subject{group: true, name: s.Name}
		case rbacv1.ServiceAccountKind:
			namespace := s.Namespace
			if namespace == "" {
				namespace = b.namespace
			}
			if namespace == "" {
				continue
			}
			key = subject{name: "system:serviceaccount:" + namespace + ":" + s.Name}
		default:
			continue
		}
		if !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out
}

func (x *Index) add(b *binding) {
	in := x.by[b.namespace]
	if in == nil {
		in = map[subject][]*binding{}
		x.by[b.namespace] = in
	}
	for _, key := range b.keys() {
		in[key] = append(in[key], b)
	}
}

func (x *Index) remove(b *binding) {
	in := x.by[b.namespace]
	for _, key := range b.keys() {
		in[key] = slices.DeleteFunc(in[key], func(have *binding) bool { return have.name == b.name })
		if len(in[key]) == 0 {
			delete(in, key)
		}
	}
	if len(in) == 0 {
		delete(x.by, b.namespace)
	}
}

// grants calls visit with every binding that gives the user something in a namespace ("": in the cluster), and the
// rules of its role, until visit returns false. missing is called for bindings whose role is not there.
func (x *Index) grants(user *request.UserInfo, namespace string, visit func(b *binding, as subject, rules []rbacv1.PolicyRule) bool, missing func(b *binding)) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, scope := range [2]string{"", namespace} {
		in := x.by[scope]
		for i := -1; i < len(user.Groups) && len(in) > 0; i++ {
			as := subject{name: user.Name}
			if i >= 0 {
				as = subject{group: true, name: user.Groups[i]}
			}
			for _, b := range in[as] {
				rules, ok := x.roles[b.role]
				if !ok {
					missing(b)
				} else if !visit(b, as, rules) {
					return
				}
			}
		}
		if namespace == "" {
			return
		}
	}
}

// Authorize allows what a rule of the user's bindings allows, and says which; otherwise it has no opinion, and names
// roles that bindings of the user are waiting for.
func (x *Index) Authorize(_ context.Context, user *request.UserInfo, info *request.Info) (authz.Decision, string, error) {
	if user == nil {
		return authz.NoOpinion, "", nil
	}
	var reason string
	var lacking []string
	x.grants(user, info.Namespace, func(b *binding, as subject, rules []rbacv1.PolicyRule) bool {
		for i := range rules {
			if allows(&rules[i], info) {
				reason = allowed(b, as)
				return false
			}
		}
		return true
	}, func(b *binding) { lacking = append(lacking, b.role.missing()) })
	if reason != "" {
		return authz.Allow, reason, nil
	}
	if len(lacking) > 0 {
		slices.Sort(lacking)
		return authz.NoOpinion, fmt.Sprintf("RBAC: %s", join(slices.Compact(lacking))), nil
	}
	return authz.NoOpinion, "", nil
}

func join(texts []string) string {
	if len(texts) == 1 {
		return texts[0]
	}
	return fmt.Sprintf("%v", texts)
}

// allowed is upstream's sentence about why something is allowed; audit logs have it.
func allowed(b *binding, as subject) string {
	kind, in := "ClusterRoleBinding", ""
	if b.namespace != "" {
		kind, in = "RoleBinding", "/"+b.namespace
	}
	roleKind := "ClusterRole"
	if b.role.namespace != "" {
		roleKind = "Role"
	}
	to := fmt.Sprintf("User %q", as.name)
	if as.group {
		to = fmt.Sprintf("Group %q", as.name)
	}
	return fmt.Sprintf("RBAC: allowed by %s %q of %s %q to %s", kind, b.name+in, roleKind, b.role.name, to)
}

func (k roleKey) missing() string {
	if k.namespace == "" {
		return fmt.Sprintf("clusterrole.rbac.authorization.k8s.io %q not found", k.name)
	}
	return fmt.Sprintf("role.rbac.authorization.k8s.io %q not found", k.name)
}

// Rules are all rules that hold for a user in a namespace, and those about paths. missing names roles that bindings wait
// for.
func (x *Index) Rules(user *request.UserInfo, namespace string) (rules []rbacv1.PolicyRule, missing []string) {
	x.grants(user, namespace, func(_ *binding, _ subject, r []rbacv1.PolicyRule) bool {
		rules = append(rules, r...)
		return true
	}, func(b *binding) { missing = append(missing, b.role.missing()) })
	return rules, missing
}

// RoleRules are the rules of the role that a binding in a namespace refers to; false when there is none such.
func (x *Index) RoleRules(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	rules, ok := x.roles[refKey(ref, namespace)]
	return rules, ok
}
