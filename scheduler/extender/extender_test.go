package extender

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"hardway/scheduler/cycle"
	"hardway/scheduler/framework"
	"hardway/scheduler/plugins"
	"hardway/scheduler/snapshot"
)

// outside is an extender that refuses b for good and c for now, and likes d best.
func outside(t *testing.T) (url string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	var mu sync.Mutex // guards asked: nodes are ranked by all extenders at once
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		*asked = append(*asked, r.URL.Path)
		mu.Unlock()
		switch r.URL.Path {
		case "/filter":
			var args extenderv1.ExtenderArgs
			if err := json.NewDecoder(r.Body).Decode(&args); err != nil {
				t.Error(err)
			}
			left := []string{}
			names := args.NodeNames
			if names == nil {
				names = new([]string)
				for i := range args.Nodes.Items {
					*names = append(*names, args.Nodes.Items[i].Name)
				}
			}
			for _, n := range *names {
				if n != "b" && n != "c" {
					left = append(left, n)
				}
			}
			reply(w, extenderv1.ExtenderFilterResult{NodeNames: &left, FailedNodes: map[string]string{"c": "c is full"}, FailedAndUnresolvableNodes: map[string]string{"b": "b is old"}})
		case "/rank":
			reply(w, extenderv1.HostPriorityList{{Host: "d", Score: 10}})
		case "/bind":
			reply(w, extenderv1.ExtenderBindingResult{Error: "no"})
		case "/slow":
			_, _ = io.Copy(io.Discard, r.Body) // only then is a client that has gone noticed
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Second):
			}
		default:
			http.Error(w, "broken", http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

func reply(w http.ResponseWriter, v any) { json.NewEncoder(w).Encode(v) } //nolint:errcheck,errchkjson // the test sees it

// world is nodes that are alike, and a pod.
func world(t *testing.T, names ...string) (*cycle.Cycle, *framework.Pod) {
	t.Helper()
	cluster := snapshot.New()
	for _, name := range names {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("10")}
		cluster.SetNode(n)
	}
	profile := plugins.Default("default-scheduler", &plugins.Needs{Columns: cluster.Columns})
	pod := framework.NewPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "p"}}, cluster.Columns)
	return cycle.New(profile, cluster, func(int) int { return 0 }), pod
}

func extenders(t *testing.T, list ...schedulerv1.Extender) (out []*Extender) {
	t.Helper()
	for _, of := range list {
		e, err := New(of, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func TestRefusesAndRanks(t *testing.T) {
	url, _ := outside(t)
	for name, byName := range map[string]bool{"names": true, "whole nodes": false} {
		t.Run(name, func(t *testing.T) {
			of, pod := world(t, "a", "b", "c", "d")
			list := extenders(t, schedulerv1.Extender{URLPrefix: url, FilterVerb: "filter", PrioritizeVerb: "rank", Weight: 1, NodeCacheCapable: byName})
			for range 2 { // the second time from what was kept of the first
				d, err := of.DecideWith(pod, Ask(t.Context(), list, pod))
				if err != nil || d.Node.Name != "d" {
					t.Fatalf("%v, %v", d.Node, err)
				}
			}
			if d, err := of.Decide(pod); err != nil || d.Node.Name != "a" {
				t.Errorf("without the extender: %v, %v", d.Node, err)
			}
		})
	}
}

func TestAllRefused(t *testing.T) {
	url, _ := outside(t)
	of, pod := world(t, "b", "c")
	list := extenders(t, schedulerv1.Extender{URLPrefix: url, FilterVerb: "filter", NodeCacheCapable: true})
	_, err := of.DecideWith(pod, Ask(t.Context(), list, pod))
	if err == nil || err.Error() != "0/2 nodes are available: 1 b is old, 1 c is full." {
		t.Errorf("error %v", err)
	}
	if way, _ := of.Evict(pod); way != nil {
		t.Errorf("evicts %v", way)
	}
}

func TestFailures(t *testing.T) {
	url, _ := outside(t)
	for name, test := range map[string]struct {
		of    schedulerv1.Extender
		wrong string
	}{
		"it fails":                  {schedulerv1.Extender{URLPrefix: url, FilterVerb: "broken"}, "answered 500"},
		"it fails and may":          {schedulerv1.Extender{URLPrefix: url, FilterVerb: "broken", Ignorable: true}, ""},
		"it is too slow":            {schedulerv1.Extender{URLPrefix: url, FilterVerb: "slow", HTTPTimeout: metav1.Duration{Duration: 50 * time.Millisecond}}, "Client.Timeout"},
		"it only ranks, and fails":  {schedulerv1.Extender{URLPrefix: url, PrioritizeVerb: "broken", Weight: 1}, ""},
		"it is not there":           {schedulerv1.Extender{URLPrefix: "http://127.0.0.1:1", FilterVerb: "filter"}, "refused"},
		"it is for other resources": {schedulerv1.Extender{URLPrefix: url, FilterVerb: "broken", ManagedResources: []schedulerv1.ExtenderManagedResource{{Name: "example.com/gpu"}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			of, pod := world(t, "a")
			_, err := of.DecideWith(pod, Ask(t.Context(), extenders(t, test.of), pod))
			if (err != nil) != (test.wrong != "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("error %v, want %q", err, test.wrong)
			}
		})
	}
}

func TestBinds(t *testing.T) {
	url, asked := outside(t)
	_, pod := world(t)
	list := extenders(t, schedulerv1.Extender{URLPrefix: url, BindVerb: "bind"})
	if err := (Binding{Extenders: list}).Bind(t.Context(), pod, "a"); err == nil || !strings.Contains(err.Error(), "bind: no") {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(*asked, []string{"/bind"}) {
		t.Errorf("asked %v", *asked)
	}
}

func TestBadSettingsAreRefused(t *testing.T) {
	for want, of := range map[string]schedulerv1.Extender{
		"urlPrefix": {}, "weight": {URLPrefix: "http://x", PrioritizeVerb: "rank"},
		"tlsConfig": {URLPrefix: "https://x", TLSConfig: &schedulerv1.ExtenderTLSConfig{CAFile: "/does/not/exist"}},
	} {
		if _, err := New(of, zap.NewNop()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %s", err, want)
		}
	}
}
