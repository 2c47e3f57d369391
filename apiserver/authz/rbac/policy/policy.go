// Package policy holds the roles and bindings that every cluster begins with, and brings them into the API.
//
// They are written in two text files. A line that begins an object is one of
//
//	clusterrole NAME                        role NAMESPACE/NAME
//	clusterrolebinding NAME = CLUSTERROLE   rolebinding NAMESPACE/NAME = KIND/ROLE
//
// and the indented lines below it are, for roles,
//
//	label KEY=VALUE
//	aggregate KEY=VALUE                     the rules of cluster roles with this label belong to it
//	url PATH...: VERB...
//	GROUP,... RESOURCE... [NAME...]: VERB...   ("core" is the group without a name)
//
// and for bindings a subject: user NAME, group NAME, serviceaccount NAMESPACE/NAME. A # begins a comment line.
package policy

import (
	"bufio"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:embed upstream.txt
var upstream string

//go:embed hardway.txt
var hardway string

// Policy is a set of roles and bindings.
type Policy struct {
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
	Roles               []*rbacv1.Role
	RoleBindings        []*rbacv1.RoleBinding
}

// Bootstrapping and its value label everything of the policy, as upstream's is. AutoUpdate is the annotation by which a
// person can keep an object from being reconciled.
const (
	Bootstrapping = "kubernetes.io/bootstrapping"
	AutoUpdate    = "rbac.authorization.kubernetes.io/autoupdate"
	defaults      = "rbac-defaults"
)

// Default is the policy of a new cluster. It panics when a file is not well formed: a broken program.
func Default() *Policy {
	p := &Policy{}
	for _, text := range []string{upstream, hardway} {
		if err := p.parse(text); err != nil {
			panic(err)
		}
	}
	p.controllers()
	return p
}

// Own is the part of Default that upstream's clusters do not have: what this project's daemons need where another API server serves them.
func Own() *Policy {
	own := &Policy{}
	if err := own.parse(hardway); err != nil {
		panic(err)
	}
	for _, b := range Default().ClusterRoleBindings {
		if strings.HasPrefix(b.Name, forAllControllers) {
			own.ClusterRoleBindings = append(own.ClusterRoleBindings, b)
		}
	}
	return own
}

// forAllControllers begins the names of the bindings that controllerUser has.
const forAllControllers = "hardway:controller:"

// controllerUser is who the controllers are as long as they do not use a service account each.
const controllerUser = "system:kube-controller-manager"

// controllers lets the one user of all controllers do what each of them may.
func (p *Policy) controllers() {
	for _, b := range slices.Clone(p.ClusterRoleBindings) {
		if name, ok := strings.CutPrefix(b.Name, "system:controller:"); ok {
			p.ClusterRoleBindings = append(p.ClusterRoleBindings, &rbacv1.ClusterRoleBinding{
				ObjectMeta: meta("", forAllControllers+name), RoleRef: b.RoleRef,
				Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: controllerUser}},
			})
		}
	}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name,
		Labels: map[string]string{Bootstrapping: defaults}, Annotations: map[string]string{AutoUpdate: "true"},
	}
}

// parser reads one file: line by line, an object and what belongs to it.
type parser struct {
	*Policy
	rule    func(rbacv1.PolicyRule)
	role    *rbacv1.ClusterRole // nil within a Role
	subject func(rbacv1.Subject)
}

func (p *Policy) parse(text string) error {
	at := parser{Policy: p}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		var err error
		if body, indented := strings.CutPrefix(line, "  "); indented {
			err = at.part(body)
		} else {
			err = at.begin(line)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w: %s", n, err, line)
		}
	}
	return lines.Err()
}

var errForm = fmt.Errorf("not well formed")

// begin reads the line of an object.
func (p *parser) begin(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	name, ref, _ := strings.Cut(rest, " = ")
	namespace, inner, namespaced := strings.Cut(name, "/")
	p.rule, p.role, p.subject = nil, nil, nil
	switch kind {
	case "clusterrole":
		r := &rbacv1.ClusterRole{ObjectMeta: meta("", name)}
		p.role, p.rule = r, func(rule rbacv1.PolicyRule) { r.Rules = append(r.Rules, rule) }
		p.ClusterRoles = append(p.ClusterRoles, r)
	case "role":
		r := &rbacv1.Role{ObjectMeta: meta(namespace, inner)}
		p.rule = func(rule rbacv1.PolicyRule) { r.Rules = append(r.Rules, rule) }
		p.Roles = append(p.Roles, r)
	case "clusterrolebinding":
		b := &rbacv1.ClusterRoleBinding{ObjectMeta: meta("", name), RoleRef: roleRef("ClusterRole", ref)}
		p.subject = func(s rbacv1.Subject) { b.Subjects = append(b.Subjects, s) }
		p.ClusterRoleBindings = append(p.ClusterRoleBindings, b)
	case "rolebinding":
		refKind, refName, ok := strings.Cut(ref, "/")
		if !ok || !namespaced {
			return errForm
		}
		b := &rbacv1.RoleBinding{ObjectMeta: meta(namespace, inner), RoleRef: roleRef(refKind, refName)}
		p.subject = func(s rbacv1.Subject) { b.Subjects = append(b.Subjects, s) }
		p.RoleBindings = append(p.RoleBindings, b)
	default:
		return errForm
	}
	return nil
}

func roleRef(kind, name string) rbacv1.RoleRef {
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
}

// part reads a line below an object.
func (p *parser) part(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	if p.subject != nil {
		s, err := subject(word, rest)
		if err == nil {
			p.subject(s)
		}
		return err
	}
	key, value, pair := strings.Cut(rest, "=")
	switch {
	case p.rule == nil:
		return errForm
	case word == "label" && pair && p.role != nil:
		p.role.Labels[key] = value
		return nil
	case word == "aggregate" && pair && p.role != nil:
		if p.role.AggregationRule == nil {
			p.role.AggregationRule = &rbacv1.AggregationRule{}
		}
		p.role.AggregationRule.ClusterRoleSelectors = append(p.role.AggregationRule.ClusterRoleSelectors,
			metav1.LabelSelector{MatchLabels: map[string]string{key: value}})
		return nil
	}
	r, err := rule(word, rest)
	if err == nil {
		p.rule(r)
	}
	return err
}

func subject(kind, name string) (rbacv1.Subject, error) {
	switch kind {
	case "user":
		return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}, nil
	case "group":
		return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}, nil
	case "serviceaccount":
		if namespace, name, ok := strings.Cut(name, "/"); ok {
			return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}, nil
		}
	}
	return rbacv1.Subject{}, errForm
}

// rule reads what follows the first word: "pods services [web]: get list".
func rule(groups, rest string) (r rbacv1.PolicyRule, err error) {
	i := strings.LastIndex(rest, ": ")
	if i < 0 {
		return r, errForm
	}
	r.Verbs = strings.Fields(rest[i+2:])
	what, names, named := strings.Cut(rest[:i], " [")
	if named {
		r.ResourceNames = strings.Fields(strings.TrimSuffix(names, "]"))
	}
	if groups == "url" {
		r.NonResourceURLs = strings.Fields(what)
		return r, nil
	}
	r.Resources = strings.Fields(what)
	for g := range strings.SplitSeq(groups, ",") {
		if g == "core" {
			g = ""
		}
		r.APIGroups = append(r.APIGroups, g)
	}
	return r, nil
}
