package differential

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"sigs.k8s.io/yaml"

	"hardway/scheduler/cycle"
	ours "hardway/scheduler/framework"
	"hardway/scheduler/plugins"
	"hardway/scheduler/snapshot"
)

var (
	ratePods  = flag.Int("rate", 0, "how many pods TestRate lets both schedulers place; 0: none")
	rateNodes = flag.Int("rate-nodes", 1000, "on how many nodes")
	rateOnly  = flag.String("rate-only", "", "only these shapes, by commas")
)

// rated are the shapes of pods that TestRate places, those of test/perf/workloads that need nothing else.
var rated = []string{"plain", "nodeaffinity", "spread", "softspread", "affinity", "antihost", "antizone", "prefersapart", "prefersapartzone"}

// TestRate measures the pure scheduling rate: no API, no queue, nothing is written. Upstream runs its scheduling cycle with a binder that does
// nothing, as many nodes at once as it likes and with its sampling; ours its decision, exact and by one goroutine.
func TestRate(t *testing.T) {
	if *ratePods == 0 {
		t.Skip("wanted by -rate only: it measures, and judges nothing but that all pods are placed")
	}
	fmt.Printf("| %d pods on %d nodes | kube-scheduler: pods/s, us CPU a pod | ours | ratio |\n|---|---|---|---|\n", *ratePods, *rateNodes)
	for _, shape := range append(rated, "mixed") {
		if *rateOnly != "" && !slices.Contains(strings.Split(*rateOnly, ","), shape) {
			continue
		}
		of := []string{shape}
		if shape == "mixed" {
			of = rated
		}
		theirs := timed(func(done func()) { rateTheirs(t, makeShapes(t, of), done) })
		mine := timed(func(done func()) { rateOurs(t, makeShapes(t, of), done) })
		fmt.Printf("| %s | %.0f, %.0f | %.0f, %.0f | %.1f, %.1f |\n", shape, theirs.rate, theirs.cpu, mine.rate, mine.cpu, mine.rate/theirs.rate, theirs.cpu/mine.cpu)
	}
}

type pace struct{ rate, cpu float64 } // pods/s; microseconds of CPU for each pod

// timed runs what places all pods. It calls ready when it has made what it needs, and returns when the last is placed.
func timed(place func(ready func())) pace {
	var began time.Time
	var before time.Duration
	place(func() { began, before = time.Now(), cpuTime() })
	n := float64(*ratePods)
	return pace{n / time.Since(began).Seconds(), float64((cpuTime() - before).Microseconds()) / n}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func makeShapes(t *testing.T, shapes []string) (out []*corev1.Pod) {
	t.Helper()
	texts := map[string]string{}
	for _, name := range append([]string{"base"}, shapes...) {
		text, err := os.ReadFile("../perf/workloads/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	for i := range *ratePods {
		p := &corev1.Pod{}
		replace := strings.NewReplacer("NUMBER", fmt.Sprintf("%06d", i), "GROUP", fmt.Sprint("g", i%100), "TEN", fmt.Sprint("t", i/10))
		for _, name := range []string{"base", shapes[i%len(shapes)]} {
			if err := yaml.UnmarshalStrict([]byte(replace.Replace(texts[name])), p); err != nil {
				t.Fatal(name, err)
			}
		}
		p.Namespace, p.UID, p.Spec.SchedulerName = "default", types.UID(p.Name), "default-scheduler"
		out = append(out, p)
	}
	return out
}

func rateNode(i int) *corev1.Node {
	name := fmt.Sprintf("node-%05d", i)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprint("zone-", i%10)}}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	return n
}

var rateNamespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}

// counter is a binder that counts.
type counter struct{ left sync.WaitGroup }

func (*counter) Name() string { return "Counter" }

func (c *counter) Bind(context.Context, fwk.CycleState, *corev1.Pod, string) *fwk.Status {
	c.left.Done()
	return nil
}

func rateTheirs(t *testing.T, pods []*corev1.Pod, ready func()) {
	t.Helper()
	cfg, err := latest.Default()
	if err != nil {
		t.Fatal(err)
	}
	profile := cfg.Profiles[0]
	profile.Plugins.Bind = config.PluginSet{Enabled: []config.Plugin{{Name: "Counter"}}, Disabled: []config.Plugin{{Name: "*"}}}
	binds := &counter{}
	binds.left.Add(len(pods))
	client := fake.NewClientset(rateNamespace)
	factory := informers.NewSharedInformerFactory(client, 0)
	recorder := func(string) events.EventRecorderLogger { return quiet{events.NewFakeRecorder(0)} }
	s, err := scheduler.New(t.Context(), client, factory, nil, recorder, scheduler.WithProfiles(profile),
		scheduler.WithFrameworkOutOfTreeRegistry(runtime.Registry{"Counter": func(context.Context, apiruntime.Object, fwk.Handle) (fwk.Plugin, error) { return binds, nil }}))
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	for i := range *rateNodes {
		s.Cache.AddNode(klog.Background(), rateNode(i))
	}
	next := 0
	s.NextPod = func(klog.Logger) (*framework.QueuedPodInfo, error) {
		info, err := framework.NewPodInfo(pods[next])
		next++
		now := time.Now()
		return &framework.QueuedPodInfo{PodInfo: info, Timestamp: now, InitialAttemptTimestamp: &now, Attempts: 1}, err
	}
	s.FailureHandler = func(_ context.Context, _ framework.Framework, p *framework.QueuedPodInfo, status *fwk.Status, _ *fwk.NominatingInfo, _ time.Time) {
		t.Errorf("kube-scheduler: %s: %s", p.Pod.Name, status.Message())
		binds.left.Done()
	}
	ready()
	for range pods {
		s.ScheduleOne(t.Context())
	}
	binds.left.Wait()
}

// quiet writes no Events.
type quiet struct{ *events.FakeRecorder }

func (quiet) Eventf(apiruntime.Object, apiruntime.Object, string, string, string, string, ...any) {}

func (q quiet) WithLogger(klog.Logger) events.EventRecorderLogger { return q }

func rateOurs(t *testing.T, pods []*corev1.Pod, ready func()) {
	t.Helper()
	c := snapshot.New()
	c.SetNamespace(rateNamespace.Name, nil)
	for i := range *rateNodes {
		c.SetNode(rateNode(i))
	}
	of := cycle.New(plugins.Default("default-scheduler", &plugins.Needs{Columns: c.Columns}), c, nil)
	ready()
	for _, p := range pods {
		pod := ours.NewPod(p, c.Columns)
		d, err := of.Decide(pod)
		if err != nil {
			t.Fatalf("ours: %s: %v", p.Name, err)
		}
		c.Assume(pod, d.Node.Name)
	}
}
