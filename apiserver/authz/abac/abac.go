// Package abac decides by a file: each line is a policy in JSON that names a user or group, and what they may do. The
// form is upstream's abac.authorization.kubernetes.io/v1beta1. The file is read once, at the start.
package abac

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"hardway/apiserver/authz"
	"hardway/apiserver/request"
)

// Policy is one line. "*" stands for everything; an empty subject matches nobody.
type Policy struct {
	User            string `json:"user,omitempty"`
	Group           string `json:"group,omitempty"`
	Readonly        bool   `json:"readonly,omitempty"`
	APIGroup        string `json:"apiGroup,omitempty"`
	Resource        string `json:"resource,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	NonResourcePath string `json:"nonResourcePath,omitempty"`
}

// Policies is the authorizer.
type Policies []Policy

// Open reads a policy file. Empty lines and lines that begin with # are skipped.
func Open(path string) (Policies, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read ABAC policy: %w", err)
	}
	var out Policies
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var doc struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Spec       Policy `json:"spec"`
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&doc); err != nil {
			return nil, fmt.Errorf("read ABAC policy %s: line %d: %w", path, n, err)
		}
		if doc.APIVersion != "abac.authorization.kubernetes.io/v1beta1" || doc.Kind != "Policy" {
			return nil, fmt.Errorf("read ABAC policy %s: line %d: a Policy of abac.authorization.kubernetes.io/v1beta1 is wanted, not %s %s", path, n, doc.APIVersion, doc.Kind)
		}
		out = append(out, doc.Spec)
	}
	return out, lines.Err()
}

// Authorize allows what a line allows.
func (ps Policies) Authorize(_ context.Context, user *request.UserInfo, info *request.Info) (authz.Decision, string, error) {
	for i := range ps {
		if ps[i].about(user) && ps[i].allows(info) {
			return authz.Allow, "", nil
		}
	}
	return authz.NoOpinion, "No policy matched.", nil
}

// about: a policy with a user and a group wants both.
func (p *Policy) about(u *request.UserInfo) bool {
	if u == nil || p.User == "" && p.Group == "" {
		return false
	}
	user := p.User == "" || p.User == u.Name || p.User == "*" && u.In(request.Authenticated)
	group := p.Group == "" || p.Group == "*" && u.In(request.Authenticated) || p.Group != "*" && u.In(p.Group)
	return user && group
}

func (p *Policy) allows(info *request.Info) bool {
	reads := info.Verb == "get" || info.Verb == "list" || info.Verb == "watch"
	if p.Readonly && !reads {
		return false
	}
	if !info.IsResource {
		path, wild := p.NonResourcePath, false
		if n := len(path); n > 0 && path[n-1] == '*' {
			path, wild = path[:n-1], true
		}
		return p.NonResourcePath != "" && (path == info.Path || wild && len(info.Path) >= len(path) && info.Path[:len(path)] == path)
	}
	is := func(pattern, value string) bool { return pattern == "*" || pattern == value }
	return is(p.Namespace, info.Namespace) && is(p.Resource, info.Resource) && is(p.APIGroup, info.Group)
}
