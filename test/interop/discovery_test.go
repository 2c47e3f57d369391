//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

var update = flag.Bool("update", false, "write what upstream says")

// upstreamDocuments is what package discovery of the API server is tested against.
const upstreamDocuments = "../../apiserver/discovery/testdata/upstream.txt"

// hash says in which version a kind is stored; in a few that differs.
var hash = regexp.MustCompile(`"storageVersionHash":"[^"]*"`)

// Upstream serves with its ordinary settings what the file says; -update writes it. Ours serves all of that as well.
func TestDiscovery(t *testing.T) {
	l := newLab(t)
	stop := l.apiserver(true)
	upstream := l.documents()
	if *update {
		if err := os.WriteFile(upstreamDocuments, []byte(strings.Join(upstream, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(upstreamDocuments)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Split(strings.TrimSpace(string(text)), "\n"); !slices.Equal(upstream, want) {
		t.Errorf("%s is not what upstream says", upstreamDocuments)
	}
	stop()
	l.apiserver(false)
	ours := l.documents()
	for _, line := range upstream {
		if !slices.ContainsFunc(ours, func(o string) bool { return hash.ReplaceAllString(o, "") == hash.ReplaceAllString(line, "") }) {
			t.Errorf("not served here: %s", line)
		}
	}
}

// documents lists every resource of every version as the plain discovery documents have it.
func (l *lab) documents() []string {
	l.t.Helper()
	api, err := kubernetes.NewForConfig(l.config("admin", "system:masters"))
	if err != nil {
		l.t.Fatal(err)
	}
	paths := map[string]string{"v1": "/api/v1"}
	var groups metav1.APIGroupList
	l.read(api, "/apis", &groups)
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			paths[v.GroupVersion] = "/apis/" + v.GroupVersion
		}
	}
	var out []string
	for gv, path := range paths {
		var list metav1.APIResourceList
		l.read(api, path, &list)
		for _, r := range list.APIResources {
			doc, err := json.Marshal(r)
			if err != nil {
				l.t.Fatal(err)
			}
			out = append(out, gv+" "+string(doc))
		}
	}
	slices.Sort(out)
	return out
}

func (l *lab) read(api *kubernetes.Clientset, path string, into any) {
	l.t.Helper()
	body, err := api.RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(context.Background())
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		l.t.Fatalf("%s: %v", path, err)
	}
}
