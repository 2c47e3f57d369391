package cycle_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/scheduler/cycle"
	"hardway/scheduler/framework"
	"hardway/scheduler/plugins"
	"hardway/scheduler/snapshot"
)

func list(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
	n.Status.Allocatable = list("4", "8Gi")
	n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("110")
	for _, c := range change {
		c(n)
	}
	return n
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	p.Spec.SchedulerName = "default-scheduler"
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: list("1", "1Gi")}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func tainted(effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "k", Value: "v", Effect: effect})
	}
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func small(n *corev1.Node) {
	n.Status.Allocatable = list("500m", "100Mi")
	n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("110")
}

func noPods(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("0") }

func hostPort(port int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: port, ContainerPort: port}}
	}
}

func onNode(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = name } }

func TestDecide(t *testing.T) {
	for name, test := range map[string]struct {
		nodes   []*corev1.Node
		placed  []*corev1.Pod
		pod     *corev1.Pod
		want    string
		refusal string
	}{
		"the emptier node": {
			nodes: []*corev1.Node{node("a"), node("b")}, placed: []*corev1.Pod{pod("x", onNode("a"))}, pod: pod("p"), want: "b",
		},
		"reasons are counted": {
			nodes:   []*corev1.Node{node("a", tainted("NoSchedule")), node("b", cordoned), node("c", small), node("d", small), node("e", noPods)},
			pod:     pod("p"),
			refusal: "0/5 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu, 2 Insufficient memory.",
		},
		"a toleration opens a tainted node": {
			nodes: []*corev1.Node{node("a", tainted("NoExecute")), node("b", cordoned)}, want: "a",
			pod: pod("p", func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}
			}),
		},
		"a node to be avoided comes last": {
			nodes: []*corev1.Node{node("a", tainted("PreferNoSchedule")), node("b")}, placed: []*corev1.Pod{pod("x", onNode("b")), pod("y", onNode("b"))},
			pod: pod("p"), want: "b",
		},
		"selector": {
			nodes: []*corev1.Node{node("a"), node("b")}, want: "b",
			pod: pod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kubernetes.io/hostname": "b"} }),
		},
		"selector that nothing matches": {
			nodes:   []*corev1.Node{node("a"), node("b")},
			pod:     pod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }),
			refusal: "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
		},
		"host port taken": {
			nodes: []*corev1.Node{node("a")}, placed: []*corev1.Pod{pod("x", hostPort(80), onNode("a"))}, pod: pod("p", hostPort(80)),
			refusal: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
		},
		"a pod without its node counts for nothing": {
			nodes: []*corev1.Node{node("a")}, placed: []*corev1.Pod{pod("x", onNode("gone"))}, pod: pod("p"), want: "a",
		},
		"no nodes": {pod: pod("p"), refusal: "no nodes available to schedule pods"},
		"spread over zones": {
			nodes: []*corev1.Node{node("a", zone("1")), node("b", zone("2")), node("c")}, want: "b",
			placed: []*corev1.Pod{pod("x", app("web"), onNode("a"))}, pod: pod("p", app("web"), spread(corev1.DoNotSchedule)),
		},
		"too uneven": {
			nodes:   []*corev1.Node{node("a", zone("1")), node("b", zone("2"), small), node("c")},
			placed:  []*corev1.Pod{pod("x", app("web"), onNode("a"))},
			pod:     pod("p", app("web"), spread(corev1.DoNotSchedule)),
			refusal: "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod topology spread constraints (missing required label).",
		},
		"near its own kind": {
			nodes: []*corev1.Node{node("a", zone("1")), node("b", zone("2")), node("c", zone("2"))}, want: "c",
			placed: []*corev1.Pod{pod("x", app("web"), onNode("b"))}, pod: pod("p", app("web"), near(corev1.LabelTopologyZone)),
		},
		"the first of its kind may go anywhere": {
			nodes: []*corev1.Node{node("a", zone("1"))}, want: "a", pod: pod("p", app("web"), near(corev1.LabelTopologyZone)),
		},
		"apart from its own kind": {
			nodes:   []*corev1.Node{node("a", zone("1")), node("b", zone("1"))},
			placed:  []*corev1.Pod{pod("x", app("web"), onNode("b"))},
			pod:     pod("p", app("web"), apart(corev1.LabelTopologyZone)),
			refusal: "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.",
		},
		"not wanted by those that are there": {
			nodes:   []*corev1.Node{node("a", zone("1"))},
			placed:  []*corev1.Pod{pod("x", app("web"), apart(corev1.LabelTopologyZone), onNode("a"))},
			pod:     pod("p", app("web")),
			refusal: "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
		},
		"one node by its name": {
			nodes: []*corev1.Node{node("a"), node("b"), node("c", small)}, want: "b", pod: pod("p", byName("b")),
		},
		"one node by its name that will not do": {
			nodes: []*corev1.Node{node("a"), node("b"), node("c", small)}, pod: pod("p", byName("c")),
			refusal: "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := snapshot.New()
			for _, n := range test.nodes {
				c.SetNode(n)
			}
			for _, p := range test.placed {
				c.SetPod(p)
			}
			d, err := cycle.New(profile(c), c, func(int) int { return 0 }).Decide(framework.NewPod(test.pod, c.Columns))
			refusal := ""
			if err != nil {
				refusal = err.Error()
			}
			if got := nameOf(d); got != test.want || refusal != test.refusal {
				t.Errorf("node %q refusal %q\nwant %q refusal %q", got, refusal, test.want, test.refusal)
			}
		})
	}
}

func profile(c *snapshot.Cluster) *framework.Profile {
	return plugins.Default("default-scheduler", &plugins.Needs{Columns: c.Columns})
}

func nameOf(d cycle.Decision) string {
	if d.Node == nil {
		return ""
	}
	return d.Node.Name
}

func zone(name string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = name }
}

func app(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"app": name} }
}

func own(p *corev1.Pod) *metav1.LabelSelector { return &metav1.LabelSelector{MatchLabels: p.Labels} }

func spread(action corev1.UnsatisfiableConstraintAction, keys ...string) func(*corev1.Pod) {
	if len(keys) == 0 {
		keys = []string{corev1.LabelTopologyZone}
	}
	return func(p *corev1.Pod) {
		for _, key := range keys {
			p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
				MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: action, LabelSelector: own(p),
			})
		}
	}
}

func affinity(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	return p.Spec.Affinity
}

func near(key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		affinity(p).PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: own(p)}}}
	}
}

func apart(key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		affinity(p).PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: own(p)}}}
	}
}

func prefersApart(key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		affinity(p).PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight: 7, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: own(p)},
		}}}
	}
}

func byName(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		affinity(p).NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name}}},
		}}}}
	}
}

// kinds are the pods of TestReuseChangesNothing.
var kinds = [][]func(*corev1.Pod){
	{}, {app("a")}, {hostPort(1)}, {app("a"), spread(corev1.DoNotSchedule)}, {app("a"), spread(corev1.ScheduleAnyway, corev1.LabelHostname, corev1.LabelTopologyZone)},
	{app("b"), near(corev1.LabelTopologyZone)}, {app("b"), apart(corev1.LabelHostname)}, {app("c"), prefersApart(corev1.LabelTopologyZone)},
	{app("c"), apart(corev1.LabelTopologyZone)}, {app("b"), spread(corev1.DoNotSchedule, corev1.LabelHostname, corev1.LabelTopologyZone)}, {app("b")},
	{app("d"), near(corev1.LabelHostname)}, {app("d")}, {byName("n3")},
}

// TestReuseChangesNothing places random pods on a changing cluster, once with kept evaluations and once with none: the
// sets of nodes that will do must be the same, and the chosen ones equally good.
func TestReuseChangesNothing(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := snapshot.New()
		first := func(n int) int { return n - 1 } // the last of the best
		kept := cycle.New(profile(c), c, first)
		for step := range 400 {
			switch k := random.IntN(12); {
			case k == 0:
				c.SetNode(node(fmt.Sprint("n", random.IntN(12)), func(n *corev1.Node) {
					if random.IntN(4) == 0 {
						tainted([]corev1.TaintEffect{"NoSchedule", "PreferNoSchedule"}[random.IntN(2)])(n)
					}
					if random.IntN(5) > 0 {
						zone(fmt.Sprint(random.IntN(3)))(n)
					}
					n.Spec.Unschedulable = random.IntN(6) == 0
					n.Status.Images = []corev1.ContainerImage{{Names: []string{fmt.Sprint("image:", random.IntN(3))}, SizeBytes: 300 << 20}}
				}))
			case k == 1 && random.IntN(3) == 0:
				c.RemoveNode(fmt.Sprint("n", random.IntN(12)))
			case k == 2:
				c.RemovePod(types.UID(fmt.Sprint("p", random.IntN(step+1))))
			case k == 3:
				c.Promise(framework.NewPod(pod(fmt.Sprint("q", random.IntN(3)), kinds[random.IntN(len(kinds))]...), c.Columns), []string{"", "n1", "n2"}[random.IntN(3)])
			default:
				p := framework.NewPod(pod(fmt.Sprint("p", step), func(p *corev1.Pod) {
					p.Spec.Containers[0].Resources.Requests = list(fmt.Sprint(random.IntN(2)), "64Mi")
					p.Spec.Containers[0].Image = fmt.Sprint("image:", random.IntN(2))
					for _, change := range kinds[random.IntN(len(kinds))] {
						change(p)
					}
				}), c.Columns)
				got, err := kept.Decide(p)
				want, wantErr := cycle.New(profile(c), c, first).Decide(p)
				if nameOf(got) != nameOf(want) || got.Feasible != want.Feasible || fmt.Sprint(err) != fmt.Sprint(wantErr) {
					t.Fatalf("seed %d step %d: kept %s %d %v, anew %s %d %v", seed, step, nameOf(got), got.Feasible, err, nameOf(want), want.Feasible, wantErr)
				}
				if err == nil {
					c.Assume(p, got.Node.Name)
				}
			}
		}
		neverOvercommitted(t, c)
	}
}

func neverOvercommitted(t *testing.T, c *snapshot.Cluster) {
	t.Helper()
	for _, n := range c.View.Nodes {
		for column := range n.Allocatable {
			if n.Node != nil && n.Free(column) < 0 {
				t.Errorf("node %s: %d of %s too much", n.Name, -n.Free(column), c.Columns.Name(column))
			}
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for name, change := range map[string][]func(*corev1.Pod){
		"basic": {}, "spread": {app("a"), spread(corev1.DoNotSchedule)}, "soft spread": {app("a"), spread(corev1.ScheduleAnyway, corev1.LabelHostname, corev1.LabelTopologyZone)},
		"affinity": {app("a"), near(corev1.LabelTopologyZone)}, "anti-affinity": {app("a"), apart(corev1.LabelHostname)}, "preferred anti-affinity": {app("a"), prefersApart(corev1.LabelTopologyZone)},
	} {
		for _, nodes := range []int{1000, 5000} {
			b.Run(fmt.Sprint(name, " ", nodes, " nodes"), func(b *testing.B) { benchmark(b, nodes, change) })
		}
	}
}

// benchmark keeps at most half as many pods as nodes: then the oldest goes for each that comes.
func benchmark(b *testing.B, nodes int, change []func(*corev1.Pod)) {
	c := snapshot.New()
	for i := range nodes {
		c.SetNode(node(fmt.Sprint("n", i), zone(fmt.Sprint(i%10))))
	}
	cyc := cycle.New(profile(c), c, nil)
	i := 0
	api := pod("p", change...)
	api.Spec.Containers[0].Resources.Requests = list("1m", "1Ki")
	for b.Loop() {
		named := *api
		named.Name, named.UID = fmt.Sprint("p", i), types.UID(fmt.Sprint("p", i))
		p := framework.NewPod(&named, c.Columns)
		d, err := cyc.Decide(p)
		if err != nil {
			b.Fatal(err)
		}
		c.Assume(p, d.Node.Name)
		c.RemovePod(types.UID(fmt.Sprint("p", i-nodes/2)))
		i++
	}
}

// TestFreeVolumes says which volumes leave the choice of a node free, so that what is known of the pod before is of use, and which do not.
func TestFreeVolumes(t *testing.T) {
	onlyOn := func(name string) *corev1.VolumeNodeAffinity {
		return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{name}},
		}}}}}
	}
	for name, test := range map[string]struct {
		change   func(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim)
		limit    int32 // of volumes on each node; 0: none
		checked  int   // rows looked at anew for the second pod
		feasible int
	}{
		"reached by all": {checked: 1, feasible: 3},
		"of one node":    {change: func(v *corev1.PersistentVolume, _ *corev1.PersistentVolumeClaim) { v.Spec.NodeAffinity = onlyOn("n1") }, checked: 3, feasible: 1},
		"of another zone": {change: func(v *corev1.PersistentVolume, _ *corev1.PersistentVolumeClaim) {
			v.Labels = map[string]string{corev1.LabelTopologyZone: "b"}
		}, checked: 3, feasible: 1},
		"limited in number": {limit: 1, checked: 3, feasible: 2},
		"for one pod alone": {change: func(_ *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
		}, checked: 3, feasible: 3},
		"gone, though bound": {change: func(v *corev1.PersistentVolume, _ *corev1.PersistentVolumeClaim) { v.Name = "other" }, checked: 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := snapshot.New()
			for i, z := range []string{"a", "a", "b"} {
				n := node(fmt.Sprint("n", i), zone(z))
				c.SetNode(n)
				limits := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: n.Name}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "d"}}}}
				if test.limit > 0 {
					limits.Spec.Drivers[0].Allocatable = &storagev1.VolumeNodeResources{Count: &test.limit}
				}
				c.View.Storage.SetNode(n.Name, limits)
			}
			of := cycle.New(profile(c), c, nil)
			var d cycle.Decision
			var err error
			for i := range 2 {
				claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("c", i), Annotations: map[string]string{framework.BindCompleted: "yes"}}}
				v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("v", i)}}
				v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: v.Name}
				claim.Spec.VolumeName = v.Name
				if test.change != nil && i == 1 {
					test.change(v, claim)
				}
				c.View.Storage.Claims["default/"+claim.Name], c.View.Storage.Volumes[v.Name] = claim, v
				p := framework.NewPod(pod(fmt.Sprint("p", i), func(p *corev1.Pod) {
					p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}}}}
				}), c.Columns)
				if d, err = of.Decide(p); err == nil {
					c.Assume(p, d.Node.Name)
				}
			}
			if d.Checked != test.checked || d.Feasible != test.feasible || (err == nil) != (test.feasible > 0) {
				t.Errorf("%d rows looked at and %d good, want %d and %d: %v", d.Checked, d.Feasible, test.checked, test.feasible, err)
			}
		})
	}
}

// BenchmarkEvict lets each pod take the place of another of lower priority.
func BenchmarkEvict(b *testing.B) {
	for _, nodes := range []int{1000, 5000} {
		b.Run(fmt.Sprint(nodes, " nodes"), func(b *testing.B) {
			c := snapshot.New()
			important := int32(10)
			for i := range nodes {
				name := fmt.Sprint("n", i)
				c.SetNode(node(name, zone(fmt.Sprint(i%10))))
				c.SetPod(pod("low-"+name, func(p *corev1.Pod) { p.Spec.NodeName, p.Spec.Containers[0].Resources.Requests = name, list("3", "1Gi") }))
			}
			of := cycle.New(profile(c), c, nil)
			i := 0
			for b.Loop() {
				p := framework.NewPod(pod(fmt.Sprint("p", i), func(p *corev1.Pod) {
					p.Spec.Priority, p.Spec.Containers[0].Resources.Requests = &important, list("3", "1Gi")
				}), c.Columns)
				if _, err := of.Decide(p); err == nil {
					b.Fatal("there is room")
				}
				way, why := of.Evict(p)
				if way == nil {
					b.Fatal(why)
				}
				c.Promise(p, way.Node)
				c.RemovePod(way.Victims[0].UID)
				if _, err := of.Decide(p); err != nil {
					b.Fatal(err)
				}
				c.Promise(p, "")
				c.SetPod(pod(fmt.Sprint("low", i), func(p *corev1.Pod) {
					p.Spec.NodeName, p.Spec.Containers[0].Resources.Requests = way.Node, list("3", "1Gi")
				}))
				i++
			}
		})
	}
}
