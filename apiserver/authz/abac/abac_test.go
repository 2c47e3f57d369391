package abac

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hardway/apiserver/authz"
	"hardway/apiserver/request"
)

func open(t *testing.T, text string) (Policies, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Open(path)
}

func line(spec string) string {
	return `{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{` + spec + "}}\n"
}

func TestAuthorize(t *testing.T) {
	ps, err := open(t, "# who may what\n\n"+
		line(`"user":"alice","namespace":"*","resource":"*","apiGroup":"*"`)+
		line(`"user":"bob","namespace":"town","resource":"pods","readonly":true`)+
		line(`"group":"dev","namespace":"dev","resource":"*","apiGroup":"apps"`)+
		line(`"user":"carol","group":"ops","namespace":"*","resource":"nodes"`)+
		line(`"group":"*","readonly":true,"nonResourcePath":"/docs*"`)+
		line(`"namespace":"*","resource":"secrets"`))
	if err != nil {
		t.Fatal(err)
	}
	user := func(name string, groups ...string) *request.UserInfo {
		return &request.UserInfo{Name: name, Groups: append(groups, request.Authenticated)}
	}
	res := func(verb, group, plural, namespace string) *request.Info {
		return &request.Info{IsResource: true, Verb: verb, Group: group, Resource: plural, Namespace: namespace}
	}
	path := func(verb, p string) *request.Info { return &request.Info{Verb: verb, Path: p} }
	for name, c := range map[string]struct {
		user *request.UserInfo
		info *request.Info
		want bool
	}{
		"everything":                 {user("alice"), res("delete", "apps", "deployments", "x"), true},
		"everything, but no paths":   {user("alice"), path("get", "/metrics"), false},
		"reads":                      {user("bob"), res("watch", "", "pods", "town"), true},
		"writes, may only read":      {user("bob"), res("create", "", "pods", "town"), false},
		"elsewhere":                  {user("bob"), res("get", "", "pods", "city"), false},
		"everywhere at once":         {user("bob"), res("list", "", "pods", ""), false},
		"another group of kinds":     {user("bob"), res("get", "x.io", "pods", "town"), false},
		"a group":                    {user("dan", "dev"), res("create", "apps", "deployments", "dev"), true},
		"a group, other kinds":       {user("dan", "dev"), res("create", "", "pods", "dev"), false},
		"a user in a group":          {user("carol", "ops"), res("get", "", "nodes", ""), true},
		"a user outside the group":   {user("carol"), res("get", "", "nodes", ""), false},
		"the group, another user":    {user("dan", "ops"), res("get", "", "nodes", ""), false},
		"a path":                     {user("eve"), path("get", "/docs/a"), true},
		"a path, writing":            {user("eve"), path("post", "/docs/a"), false},
		"a path, nobody":             {&request.UserInfo{Name: request.Anonymous, Groups: []string{request.Unauthenticated}}, path("get", "/docs/a"), false},
		"another path":               {user("eve"), path("get", "/doc"), false},
		"a line that names nobody":   {user("eve"), res("get", "", "secrets", "x"), false},
		"no user":                    {nil, res("get", "", "pods", "town"), false},
		"a user called as the group": {user("dev"), res("create", "apps", "deployments", "dev"), false},
	} {
		d, _, err := ps.Authorize(t.Context(), c.user, c.info)
		if err != nil || (d == authz.Allow) != c.want {
			t.Errorf("%s: %v %v, want %v", name, d, err, c.want)
		}
	}
}

func TestOpen(t *testing.T) {
	for text, want := range map[string]string{
		"\n" + line(`"usr":"a"`):              "line 2: ",
		`{"apiVersion":"v1","kind":"Policy"}`: "a Policy of abac.authorization.kubernetes.io/v1beta1 is wanted, not v1 Policy",
		"{":                                   "line 1: ",
	} {
		if _, err := open(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}
