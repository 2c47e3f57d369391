package cycle_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
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
		"no nodes": {pod: pod("p"), refusal: "0/0 nodes are available."},
		"a rule that cannot be kept": {
			nodes: []*corev1.Node{node("a")},
			pod: pod("p", func(p *corev1.Pod) {
				p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{WhenUnsatisfiable: corev1.DoNotSchedule}}
			}),
			refusal: "0/1 nodes are available: this scheduler does not support spec.topologySpreadConstraints with whenUnsatisfiable: DoNotSchedule yet.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := snapshot.New()
			for _, n := range test.nodes {
				c.SetNode(n)
			}
			for _, p := range test.placed {
				c.SetPod(framework.NewPod(p, c.Columns))
			}
			profile := plugins.Default("default-scheduler", c.Columns, nil)
			d, err := cycle.New(profile, func(int) int { return 0 }).Decide(c.Rows(), framework.NewPod(test.pod, c.Columns))
			refusal := ""
			if err != nil {
				refusal = err.Error()
			}
			if d.Node != test.want || refusal != test.refusal {
				t.Errorf("node %q refusal %q\nwant %q refusal %q", d.Node, refusal, test.want, test.refusal)
			}
		})
	}
}

// TestReuseChangesNothing places random pods on a changing cluster, once with kept evaluations and once with none: the
// sets of nodes that will do must be the same, and the chosen ones equally good.
func TestReuseChangesNothing(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := snapshot.New()
		profile := plugins.Default("default-scheduler", c.Columns, nil)
		first := func(n int) int { return n - 1 } // the first of the best
		kept := cycle.New(profile, first)
		for step := range 300 {
			switch k := random.IntN(10); {
			case k == 0:
				c.SetNode(node(fmt.Sprint("n", random.IntN(12)), func(n *corev1.Node) {
					if random.IntN(3) == 0 {
						tainted("NoSchedule")(n)
					}
					n.Spec.Unschedulable = random.IntN(5) == 0
				}))
			case k == 1:
				c.RemoveNode(fmt.Sprint("n", random.IntN(12)))
			case k == 2:
				c.RemovePod(types.UID(fmt.Sprint("p", random.IntN(step+1))))
			default:
				p := framework.NewPod(pod(fmt.Sprint("p", step), func(p *corev1.Pod) {
					p.Spec.Containers[0].Resources.Requests = list(fmt.Sprint(random.IntN(3)), "64Mi")
					if random.IntN(4) == 0 {
						hostPort(int32(random.IntN(3) + 1))(p)
					}
				}), c.Columns)
				got, err := kept.Decide(c.Rows(), p)
				want, wantErr := cycle.New(profile, first).Decide(c.Rows(), p)
				if got.Node != want.Node || got.Feasible != want.Feasible || fmt.Sprint(err) != fmt.Sprint(wantErr) {
					t.Fatalf("seed %d step %d: kept %v %v, anew %v %v", seed, step, got, err, want, wantErr)
				}
				if err == nil {
					c.Assume(p, got.Node)
				}
			}
		}
		neverOvercommitted(t, c)
	}
}

func neverOvercommitted(t *testing.T, c *snapshot.Cluster) {
	t.Helper()
	for _, n := range c.Rows() {
		for column := range n.Allocatable {
			if n.Node != nil && n.Free(column) < 0 {
				t.Errorf("node %s: %d of %s too much", n.Name, -n.Free(column), c.Columns.Name(column))
			}
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, nodes := range []int{1000, 5000} {
		b.Run(fmt.Sprint(nodes, " nodes"), func(b *testing.B) {
			c := snapshot.New()
			for i := range nodes {
				c.SetNode(node(fmt.Sprint("n", i)))
			}
			cyc := cycle.New(plugins.Default("default-scheduler", c.Columns, nil), nil)
			i := 0
			for b.Loop() {
				p := framework.NewPod(pod(fmt.Sprint("p", i), func(p *corev1.Pod) {
					p.Spec.Containers[0].Resources.Requests = list("1m", "1Ki")
				}), c.Columns)
				d, err := cyc.Decide(c.Rows(), p)
				if err != nil {
					b.Fatal(err)
				}
				c.Assume(p, d.Node)
				c.RemovePod(p.UID)
				i++
			}
		})
	}
}
