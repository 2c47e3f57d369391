package extender

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"hardway/scheduler/cycle"
	"hardway/scheduler/framework"
	"hardway/scheduler/plugins"
	"hardway/scheduler/snapshot"
)

// sitting is a pod on a node, or one without a node.
func sitting(name, node, cpu string, priority int32) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	p.Spec.NodeName, p.Spec.Priority = node, &priority
	p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}
	return p
}

// judge is an extender that is asked about preemption and answers what say makes of the victims' uids by node.
func judge(t *testing.T, byName bool, say func(victims map[string][]string) any) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var args extenderv1.ExtenderPreemptionArgs
		if err := json.NewDecoder(r.Body).Decode(&args); err != nil || r.URL.Path != "/preempt" || args.Pod.Name != "important" {
			t.Errorf("asked %s about %v: %v", r.URL.Path, args.Pod, err)
		}
		if byName != (args.NodeNameToVictims == nil) || byName != (args.NodeNameToMetaVictims != nil) {
			t.Errorf("asked with %d whole and %d meta victims", len(args.NodeNameToVictims), len(args.NodeNameToMetaVictims))
		}
		victims := map[string][]string{}
		for node, v := range args.NodeNameToMetaVictims {
			for _, p := range v.Pods {
				victims[node] = append(victims[node], p.UID)
			}
		}
		for node, v := range args.NodeNameToVictims {
			for _, p := range v.Pods {
				victims[node] = append(victims[node], string(p.UID))
			}
		}
		reply(w, say(victims))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func meta(uids ...string) *extenderv1.MetaVictims {
	v := &extenderv1.MetaVictims{}
	for _, uid := range uids {
		v.Pods = append(v.Pods, &extenderv1.MetaPod{UID: uid})
	}
	return v
}

func answer(of map[string]*extenderv1.MetaVictims) extenderv1.ExtenderPreemptionResult {
	return extenderv1.ExtenderPreemptionResult{NodeNameToMetaVictims: of}
}

// TestPreemption has a pod that needs a whole node. On a there is one pod of priority 1, on b one of 5 and a small one of 7: left alone,
// the scheduler takes a.
func TestPreemption(t *testing.T) {
	for name, test := range map[string]struct {
		say     func(victims map[string][]string) any
		of      schedulerv1.Extender
		node    string
		victims []string
		why     string
	}{
		"agrees": {
			say: func(v map[string][]string) any {
				return answer(map[string]*extenderv1.MetaVictims{"a": meta(v["a"]...), "b": meta(v["b"]...)})
			},
			node: "a", victims: []string{"a1"},
		},
		"drops the best node": {
			say: func(v map[string][]string) any {
				return answer(map[string]*extenderv1.MetaVictims{"b": meta(v["b"]...)})
			},
			node: "b", victims: []string{"b5"},
		},
		"wants more victims": {
			say: func(map[string][]string) any {
				return answer(map[string]*extenderv1.MetaVictims{"b": meta("b5", "b7")})
			},
			node: "b", victims: []string{"b7", "b5"},
		},
		"is against it": {
			say: func(map[string][]string) any { return answer(nil) },
			why: "0/2 nodes are available: 2 an extender is against evicting pods.",
		},
		"names a pod that is elsewhere": {
			say: func(map[string][]string) any { return answer(map[string]*extenderv1.MetaVictims{"b": meta("a1")}) },
			why: "node b: there is no pod with the uid of victim",
		},
		"names another node": {
			say: func(map[string][]string) any { return answer(map[string]*extenderv1.MetaVictims{"c": meta("a1")}) },
			why: "node c was not asked about",
		},
		"names no victims": {
			say: func(map[string][]string) any { return answer(map[string]*extenderv1.MetaVictims{"a": meta()}) },
			why: "no victims on node a",
		},
		"names no victims, and is ignorable": {
			say: func(v map[string][]string) any {
				return answer(map[string]*extenderv1.MetaVictims{"a": meta(), "b": meta(v["b"]...)})
			},
			of: schedulerv1.Extender{Ignorable: true}, node: "b", victims: []string{"b5"},
		},
		"talks nonsense": {
			say: func(map[string][]string) any { return "nonsense" },
			why: "extender http://",
		},
		"talks nonsense, and is ignorable": {
			say: func(map[string][]string) any { return "nonsense" },
			of:  schedulerv1.Extender{Ignorable: true}, node: "a", victims: []string{"a1"},
		},
		"manages something else": {
			say: func(map[string][]string) any { t.Error("was asked"); return nil },
			of:  schedulerv1.Extender{ManagedResources: []schedulerv1.ExtenderManagedResource{{Name: "example.com/gpu"}}}, node: "a", victims: []string{"a1"},
		},
	} {
		for _, byName := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				of := test.of
				of.URLPrefix, of.PreemptVerb, of.NodeCacheCapable = judge(t, byName, test.say), "preempt", byName
				way, why := evict(t, extenders(t, of))
				switch {
				case test.node == "":
					if way != nil || !strings.Contains(why, test.why) {
						t.Errorf("way %v, %q, want %q", way, why, test.why)
					}
				case way == nil:
					t.Errorf("no way: %s", why)
				default:
					var got []string
					for _, v := range way.Victims {
						got = append(got, v.Name)
					}
					if way.Node != test.node || !slices.Equal(got, test.victims) {
						t.Errorf("%s without %v, want %s without %v", way.Node, got, test.node, test.victims)
					}
				}
			})
		}
	}
}

func evict(t *testing.T, list []*Extender) (*framework.Eviction, string) {
	t.Helper()
	cluster := snapshot.New()
	for _, name := range []string{"a", "b"} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("10")}
		cluster.SetNode(n)
	}
	cluster.SetPod(sitting("a1", "a", "3", 1))
	cluster.SetPod(sitting("b5", "b", "3", 5))
	cluster.SetPod(sitting("b7", "b", "1", 7))
	profile := plugins.Default("default-scheduler", &plugins.Needs{Columns: cluster.Columns, Consult: func(p *framework.Pod, ways []*framework.Eviction) ([]*framework.Eviction, error) {
		return Preempt(t.Context(), list, p, ways, cluster.PodsOn)
	}})
	of := cycle.New(profile, cluster, nil)
	pod := framework.NewPod(sitting("important", "", "3", 10), cluster.Columns)
	if _, err := of.Decide(pod); err == nil {
		t.Fatal("there is room")
	}
	return of.Evict(pod)
}
