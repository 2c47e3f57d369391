package resources

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

func group(name string, versions ...apidiscoveryv2.APIVersionDiscovery) apidiscoveryv2.APIGroupDiscovery {
	return apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: name}, Versions: versions}
}

func version(name string, kinds ...string) apidiscoveryv2.APIVersionDiscovery {
	v := apidiscoveryv2.APIVersionDiscovery{Version: name, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
	for _, kind := range kinds {
		v.Resources = append(v.Resources, apidiscoveryv2.APIResourceDiscovery{
			Resource: strings.ToLower(kind) + "s", ResponseKind: &metav1.GroupVersionKind{Kind: kind}, Scope: apidiscoveryv2.ScopeNamespace, Verbs: []string{"list"},
		})
	}
	return v
}

func TestRead(t *testing.T) {
	stale := version("v1beta1")
	stale.Freshness = apidiscoveryv2.DiscoveryFreshnessStale
	s := Read([]apidiscoveryv2.APIGroupDiscovery{
		group("", version("v1", "Pod")), group("apps", version("v1", "Deployment"), version("v1beta1", "Deployment", "Scale")),
		group("extensions", version("v1beta1", "Deployment", "Odd")), group("metrics.k8s.io", stale),
	})
	var got []string
	for _, r := range s.All {
		got = append(got, r.Group+"/"+r.Version+"/"+r.Resource)
	}
	if want := "/v1/pods apps/v1/deployments apps/v1beta1/scales extensions/v1beta1/odds"; strings.Join(got, " ") != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
	if len(s.Missing) != 1 || s.Missing[0].Group != "metrics.k8s.io" {
		t.Errorf("missing: %v", s.Missing)
	}
	if r, ok := s.ByKind("apps", "Deployment"); !ok || r.Version != "v1" || !r.Can("list") || r.Can("list", "delete") {
		t.Errorf("by kind: %+v, %t", r, ok)
	}
	if _, ok := s.ByKind("apps", "Nothing"); ok {
		t.Error("found a kind that is not there")
	}
}

func TestFind(t *testing.T) {
	answer := apidiscoveryv2.APIGroupDiscoveryList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList"}, Items: []apidiscoveryv2.APIGroupDiscovery{group("", version("v1", "Pod"))}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good/api", "/good/apis":
			if r.Header.Get("Accept") != aggregated {
				http.Error(w, "accept", http.StatusNotAcceptable)
				return
			}
			json.NewEncoder(w).Encode(answer) //nolint:errcheck // a test
		case "/plain/api":
			w.Write([]byte(`{"kind":"APIVersions"}`)) //nolint:errcheck // a test
		default:
			http.Error(w, "go away", http.StatusForbidden)
		}
	}))
	defer server.Close()
	for path, want := range map[string]string{"/good": "", "/plain": "not with aggregated discovery", "/bad": "go away"} {
		f, err := NewFinder(&rest.Config{Host: server.URL + path})
		if err != nil {
			t.Fatal(err)
		}
		set, err := f.Find(t.Context())
		if want == "" && (err != nil || len(set.All) != 2) {
			t.Errorf("%s: %v, %v", path, set, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
