package discovery_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/discovery"
	"hardway/apiserver/kinds"
)

// storedOtherwise are the hashes of kinds that upstream still stores as v1beta1, which is read here but not written, by
// those of v1: MutatingAdmissionPolicy, its Binding, and CustomResourceDefinition.
var storedOtherwise = map[string]string{
	"mHCkTKpUTrE=": "LYmCf+UMVdg=", "ZKgZT1uTmZ0=": "90V5FRZZ3Zg=", "M5uH+AlWATY=": "jfWCUB31mvA=",
}

// TestDiscoveryIsUpstreams compares what is served, kind by kind and verb by verb, with testdata/upstream.txt, which
// `test/interop/run.sh TestDiscovery` wrote from upstream's kube-apiserver with its ordinary settings. Legacy versions,
// which upstream does not serve any more, are not in there.
func TestDiscoveryIsUpstreams(t *testing.T) {
	text, err := os.ReadFile("testdata/upstream.txt")
	if err != nil {
		t.Fatal(err)
	}
	for ours, theirs := range storedOtherwise {
		text = []byte(strings.ReplaceAll(string(text), theirs, ours))
	}
	want := strings.Split(strings.TrimSpace(string(text)), "\n")
	d := discovery.New(kinds.All(), "127.0.0.1:6443")
	seen := map[string]bool{}
	var got []string
	for _, line := range want {
		text, _, _ := strings.Cut(line, " ")
		if seen[text] {
			continue
		}
		seen[text] = true
		gv, err := schema.ParseGroupVersion(text)
		if err != nil {
			t.Fatal(err)
		}
		list := d.Resources(gv)
		if list == nil {
			t.Errorf("%s is not served", gv)
			continue
		}
		for _, r := range list.APIResources {
			doc, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, text+" "+string(doc))
		}
	}
	slices.Sort(got)
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("upstream says\n%s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("upstream does not say\n%s", line)
		}
	}
}
