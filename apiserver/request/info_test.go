package request

import (
	"net/http/httptest"
	"strings"
	"testing"

	"slices"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name, method, url string
		want              Info
		parts             string
		fails             bool
	}{
		{name: "list across namespaces", method: "GET", url: "/api/v1/pods",
			want: Info{Verb: "list", Version: "v1", Resource: "pods"}, parts: "pods"},
		{name: "list in a namespace", method: "GET", url: "/api/v1/namespaces/dev/pods",
			want: Info{Verb: "list", Version: "v1", Namespace: "dev", Resource: "pods"}, parts: "pods"},
		{name: "get", method: "GET", url: "/apis/apps/v1/namespaces/dev/deployments/web",
			want: Info{Verb: "get", Group: "apps", Version: "v1", Namespace: "dev", Resource: "deployments", Name: "web"}, parts: "deployments/web"},
		{name: "head is get", method: "HEAD", url: "/api/v1/nodes/n1",
			want: Info{Verb: "get", Version: "v1", Resource: "nodes", Name: "n1"}, parts: "nodes/n1"},
		{name: "create", method: "POST", url: "/api/v1/namespaces/dev/pods",
			want: Info{Verb: "create", Version: "v1", Namespace: "dev", Resource: "pods"}, parts: "pods"},
		{name: "subresource", method: "PUT", url: "/api/v1/namespaces/dev/pods/p/status",
			want: Info{Verb: "update", Version: "v1", Namespace: "dev", Resource: "pods", Name: "p", Subresource: "status"}, parts: "pods/p/status"},
		{name: "a namespace", method: "DELETE", url: "/api/v1/namespaces/dev",
			want: Info{Verb: "delete", Version: "v1", Namespace: "dev", Resource: "namespaces", Name: "dev"}, parts: "namespaces/dev"},
		{name: "a namespace's status", method: "PATCH", url: "/api/v1/namespaces/dev/status",
			want: Info{Verb: "patch", Version: "v1", Namespace: "dev", Resource: "namespaces", Name: "dev", Subresource: "status"}, parts: "namespaces/dev/status"},
		{name: "a namespace's finalizers", method: "PUT", url: "/api/v1/namespaces/dev/finalize",
			want: Info{Verb: "update", Version: "v1", Namespace: "dev", Resource: "namespaces", Name: "dev", Subresource: "finalize"}, parts: "namespaces/dev/finalize"},
		{name: "all namespaces", method: "GET", url: "/api/v1/namespaces",
			want: Info{Verb: "list", Version: "v1", Resource: "namespaces"}, parts: "namespaces"},
		{name: "watch", method: "GET", url: "/api/v1/pods?watch=true",
			want: Info{Verb: "watch", Version: "v1", Resource: "pods"}, parts: "pods"},
		{name: "watch without a value", method: "GET", url: "/api/v1/pods?watch",
			want: Info{Verb: "watch", Version: "v1", Resource: "pods"}, parts: "pods"},
		{name: "watch=0 is a list", method: "GET", url: "/api/v1/pods?watch=0",
			want: Info{Verb: "list", Version: "v1", Resource: "pods"}, parts: "pods"},
		{name: "old form of a watch", method: "GET", url: "/api/v1/watch/namespaces/dev/pods",
			want: Info{Verb: "watch", Version: "v1", Namespace: "dev", Resource: "pods", LegacyWatch: true}, parts: "pods"},
		{name: "old form of a watch of one", method: "GET", url: "/api/v1/watch/namespaces/dev/pods/p",
			want: Info{Verb: "watch", Version: "v1", Namespace: "dev", Resource: "pods", Name: "p", LegacyWatch: true}, parts: "pods/p"},
		{name: "watch of nothing", method: "GET", url: "/api/v1/watch", fails: true,
			want: Info{Verb: "get", Version: "v1"}},
		{name: "a list of one name carries it", method: "GET", url: "/api/v1/nodes?fieldSelector=metadata.name%3Dn1",
			want: Info{Verb: "list", Version: "v1", Resource: "nodes", Name: "n1"}, parts: "nodes"},
		{name: "but not a name that is none", method: "GET", url: "/api/v1/nodes?fieldSelector=metadata.name%3D..",
			want: Info{Verb: "list", Version: "v1", Resource: "nodes"}, parts: "nodes"},
		{name: "delete of many", method: "DELETE", url: "/api/v1/namespaces/dev/pods",
			want: Info{Verb: "deletecollection", Version: "v1", Namespace: "dev", Resource: "pods"}, parts: "pods"},
		{name: "proxy with a path", method: "POST", url: "/api/v1/namespaces/dev/services/https:web:8443/proxy/a/b",
			want:  Info{Verb: "create", Version: "v1", Namespace: "dev", Resource: "services", Name: "https:web:8443", Subresource: "proxy"},
			parts: "services/https:web:8443/proxy/a/b"},
		{name: "unknown method", method: "BREW", url: "/api/v1/pods", want: Info{Version: "v1", Resource: "pods"}, parts: "pods"},
		{name: "group discovery", method: "GET", url: "/apis/apps/v1", want: Info{Verb: "get"}},
		{name: "core discovery", method: "GET", url: "/api/v1", want: Info{Verb: "get"}},
		{name: "health", method: "GET", url: "/readyz/etcd", want: Info{Verb: "get"}},
		{name: "root", method: "GET", url: "/", want: Info{Verb: "get"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), test.method, test.url, nil)
			got, err := Parse(r)
			if (err != nil) != test.fails {
				t.Fatalf("error %v", err)
			}
			want := test.want
			want.Path = r.URL.Path
			want.IsResource = want.Version != ""
			if parts := strings.Join(got.Parts, "/"); parts != test.parts {
				t.Errorf("parts %q, want %q", parts, test.parts)
			}
			got.Parts = nil
			if !equal(*got, want) {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
}

func equal(a, b Info) bool {
	return a.Path == b.Path && a.Verb == b.Verb && a.IsResource == b.IsResource && a.Group == b.Group && a.Version == b.Version &&
		a.Namespace == b.Namespace && a.Resource == b.Resource && a.Subresource == b.Subresource && a.Name == b.Name &&
		a.LegacyWatch == b.LegacyWatch && slices.Equal(a.Parts, b.Parts)
}

func TestLongRunning(t *testing.T) {
	for url, want := range map[string]bool{
		"/api/v1/pods?watch=1":                  true,
		"/api/v1/namespaces/d/pods/p/log":       true,
		"/api/v1/namespaces/d/pods/p/exec":      true,
		"/api/v1/nodes/n/proxy/metrics":         true,
		"/debug/pprof/profile":                  true,
		"/api/v1/pods":                          false,
		"/api/v1/namespaces/d/pods/p/status":    false,
		"/openapi/v2":                           false,
		"/api/v1/namespaces/d/pods/p/eviction":  false,
		"/apis/apps/v1/namespaces/d/x/exec":     false,
		"/apis/apps/v1/namespaces/d/x/y/attach": true,
	} {
		info, err := Parse(httptest.NewRequestWithContext(t.Context(), "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.LongRunning(); got != want {
			t.Errorf("%s: %v, want %v", url, got, want)
		}
	}
}

func TestWarningsAreBoundedAndSingle(t *testing.T) {
	s := &State{}
	ctx := With(t.Context(), s)
	for range 3 {
		Warn(ctx, "same")
	}
	if got := s.TakeWarnings(); !slices.Equal(got, []string{"same"}) {
		t.Errorf("got %v", got)
	}
	for i := range 2 * maxWarnings {
		Warn(ctx, strings.Repeat("x", i+1))
	}
	if got := len(s.TakeWarnings()); got != maxWarnings {
		t.Errorf("%d warnings kept, want %d", got, maxWarnings)
	}
	Warn(t.Context(), "outside a request: dropped")
	if User(t.Context()) != nil || From(t.Context()) != nil {
		t.Error("outside a request there is nobody and nothing")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("GET", "/api/v1/namespaces/a/pods/b/log?fieldSelector=metadata.name=x&watch=1")
	f.Add("DELETE", "/apis/apps/v1/watch/namespaces")
	f.Fuzz(func(t *testing.T, method, path string) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.Method, r.URL.Path = method, path
		if before, query, ok := strings.Cut(path, "?"); ok {
			r.URL.Path, r.URL.RawQuery = before, query
		}
		info, err := Parse(r)
		if info == nil {
			t.Fatal("no info")
		}
		if err == nil && info.IsResource && info.Resource == "" && len(info.Parts) > 0 && info.Parts[0] != "" {
			t.Errorf("a resource request without a resource: %+v", info)
		}
	})
}
