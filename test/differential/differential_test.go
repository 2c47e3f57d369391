package differential

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	upstream "k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"

	"hardway/scheduler/cycle"
	ours "hardway/scheduler/framework"
	"hardway/scheduler/plugins"
	"hardway/scheduler/snapshot"
)

var (
	clusters = flag.Int("clusters", 2000, "how many random clusters")
	seed     = flag.Uint64("seed", 1, "of the first; the others follow")
)

// current lets one framework look at one snapshot after the other.
type current struct{ fwk.SharedLister }

// theirs is upstream's framework with the default plugins that we have, too.
type theirs struct {
	framework.Framework
	view *current
}

func newTheirs(t *testing.T, world *world) *theirs {
	t.Helper()
	metrics.Register()
	cfg, err := latest.Default()
	if err != nil {
		t.Fatal(err)
	}
	profile := &cfg.Profiles[0]
	profile.Plugins.MultiPoint.Enabled = slices.DeleteFunc(profile.Plugins.MultiPoint.Enabled, func(p config.Plugin) bool {
		return !slices.Contains(plugins.Names(), p.Name) || slices.Contains(stateful, p.Name)
	})
	client := fake.NewClientset(world.objects()...)
	factory := informers.NewSharedInformerFactory(client, 0)
	out := &theirs{view: &current{cache.NewSnapshot(nil, nil)}}
	out.Framework, err = runtime.NewFramework(t.Context(), upstream.NewInTreeRegistry(), profile,
		runtime.WithSnapshotSharedLister(out.view), runtime.WithInformerFactory(factory), runtime.WithClientSet(client), runtime.WithParallelism(1))
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	return out
}

// stateful are plugins that need what a snapshot of nodes and pods does not have.
var stateful = []string{"VolumeBinding", "VolumeZone", "VolumeRestrictions", "NodeVolumeLimits", "DynamicResources"}

// find returns the total of each node that will do, and why the others will not.
func (f *theirs) find(ctx context.Context, pods []*corev1.Pod, nodes []*corev1.Node, pod *corev1.Pod) (map[string]int64, map[string]string) {
	f.view.SharedLister = cache.NewSnapshot(pods, nodes)
	state := framework.NewCycleState()
	totals, reasons := map[string]int64{}, map[string]string{}
	result, status, _ := f.RunPreFilterPlugins(ctx, state, pod)
	if !status.IsSuccess() {
		reasons["*"] = status.Message()
		return totals, reasons
	}
	all, err := f.view.NodeInfos().List()
	if err != nil {
		panic(err)
	}
	var feasible []fwk.NodeInfo
	for _, n := range all {
		if !result.AllNodes() && !result.NodeNames.Has(n.Node().Name) {
			continue
		}
		if no := f.RunFilterPlugins(ctx, state, pod, n); !no.IsSuccess() {
			lines := no.Reasons()
			slices.Sort(lines)
			reasons[n.Node().Name] = fmt.Sprint(no.Code() == fwk.UnschedulableAndUnresolvable, " ", strings.Join(lines, ","))
			continue
		}
		feasible = append(feasible, n)
	}
	if len(feasible) == 0 {
		return totals, reasons
	}
	if status := f.RunPreScorePlugins(ctx, state, pod, feasible); !status.IsSuccess() {
		panic(status.AsError())
	}
	scores, status := f.RunScorePlugins(ctx, state, pod, feasible)
	if !status.IsSuccess() {
		panic(status.AsError())
	}
	for _, s := range scores {
		totals[s.Name] = s.TotalScore
	}
	return totals, reasons
}

// find is the same by our cycle.
func find(c *snapshot.Cluster, of *cycle.Cycle, pod *corev1.Pod) (map[string]int64, map[string]string) {
	p := ours.NewPod(pod, c.Columns)
	reasons := map[string]string{}
	for _, n := range c.View.Nodes {
		if n.Node == nil {
			continue
		}
		no := of.Verdict(p, n)
		switch {
		case no == nil || strings.HasPrefix(no.Reason, "node(s) didn't satisfy plugin(s)"):
		default:
			lines := strings.Split(no.Reason, "\n")
			slices.Sort(lines)
			reasons[n.Name] = fmt.Sprint(no.Code == ours.Unresolvable, " ", strings.Join(lines, ","))
		}
	}
	return of.Totals(p), reasons
}

// TestSameDecisions builds random clusters pod by pod and asks both at every step.
func TestSameDecisions(t *testing.T) {
	w := &world{random: rand.New(rand.NewPCG(0, 0))}
	f := newTheirs(t, w)
	compared := 0
	for i := range *clusters {
		w.random = rand.New(rand.NewPCG(*seed+uint64(i), 7))
		compared += compare(t, w, f, *seed+uint64(i))
		if t.Failed() {
			return
		}
	}
	t.Logf("%d clusters, %d pods compared", *clusters, compared)
}

func compare(t *testing.T, w *world, f *theirs, seed uint64) (compared int) {
	t.Helper()
	c := snapshot.New()
	c.View.Owners = w.owners
	for name, set := range namespaces {
		c.SetNamespace(name, set)
	}
	profile := plugins.Default("default-scheduler", &plugins.Needs{Columns: c.Columns})
	kept := cycle.New(profile, c, nil)
	nodes := w.nodes()
	for _, n := range nodes {
		c.SetNode(n)
	}
	var placed []*corev1.Pod
	for step := range 4 + w.random.IntN(12) {
		pod := w.pod(step)
		wantTotals, wantReasons := f.find(t.Context(), placed, nodes, pod)
		gotTotals, gotReasons := find(c, kept, pod)
		if pod.Spec.Resources != nil {
			// Differs from upstream: NodeResourcesFit ranks by pod-level resources, which upstream forgets when it ranks.
			level(gotTotals, wantTotals)
		}
		featuresFirst(gotReasons, wantReasons)
		if diff := differ(gotTotals, gotReasons, wantTotals, wantReasons); diff != "" {
			t.Errorf("seed %d, step %d: %s\npod: %s", seed, step, diff, dump(pod))
			for _, n := range nodes {
				t.Logf("node %s: labels %v taints %v allocatable %v", n.Name, n.Labels, n.Spec.Taints, n.Status.Allocatable)
			}
			for _, p := range placed {
				t.Logf("placed on %s: %s", p.Spec.NodeName, dump(p))
			}
			return compared
		}
		compared++
		if to := w.choose(wantTotals, nodes); to != "" {
			there := pod.DeepCopy()
			there.Spec.NodeName = to
			if w.random.IntN(8) == 0 {
				now := metav1.Now()
				there.DeletionTimestamp = &now
			}
			placed = append(placed, there)
			c.SetPod(there)
		}
	}
	return compared
}

// featuresFirst takes over our reason where it is that of NodeDeclaredFeatures and upstream's that of a plugin that looks at other pods.
// Differs from upstream: that asks NodeDeclaredFeatures last, we ask it before those.
func featuresFirst(got, want map[string]string) {
	for node, reason := range got {
		other := want[node]
		if strings.HasSuffix(reason, "required features") && (strings.Contains(other, "topology spread constraints") || strings.Contains(other, "affinity rules")) {
			want[node] = reason
		}
	}
}

// level leaves of totals only which nodes have one.
func level(totals ...map[string]int64) {
	for _, t := range totals {
		for name := range t {
			t[name] = 0
		}
	}
}

func differ(gotTotals map[string]int64, gotReasons map[string]string, wantTotals map[string]int64, wantReasons map[string]string) string {
	if all, ok := wantReasons["*"]; ok {
		for _, reason := range gotReasons {
			if !strings.HasSuffix(reason, all) {
				return fmt.Sprintf("refused for all because %q, ours %q", all, reason)
			}
		}
		if len(gotTotals) > 0 {
			return fmt.Sprintf("refused for all because %q, ours takes %v", all, gotTotals)
		}
		return ""
	}
	if fmt.Sprint(gotTotals) != fmt.Sprint(wantTotals) {
		return fmt.Sprintf("totals\nours     %v\nupstream %v\nreasons ours %v upstream %v", gotTotals, wantTotals, gotReasons, wantReasons)
	}
	if fmt.Sprint(gotReasons) != fmt.Sprint(wantReasons) {
		return fmt.Sprintf("reasons\nours     %v\nupstream %v", gotReasons, wantReasons)
	}
	return ""
}

func dump(p *corev1.Pod) string {
	data, err := json.Marshal(p.Spec)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s/%s labels %v spec %s", p.Namespace, p.Name, labels.Set(p.Labels), data)
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}
