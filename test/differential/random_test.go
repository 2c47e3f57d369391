package differential

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	ours "hardway/scheduler/framework"
)

// world makes random nodes and pods.
type world struct{ random *rand.Rand }

var namespaces = map[string]labels.Set{"a": {"team": "red"}, "b": {"team": "blue"}, "c": {}}

// service selects pods in namespace a, so that those without constraints are spread by default.
var service = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}}

func (w *world) objects() (out []apiruntime.Object) {
	for name, set := range namespaces {
		out = append(out, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: set}})
	}
	return append(out, service)
}

func (w *world) owners(p *ours.Pod) labels.Selector {
	selector := labels.SelectorFromSet(service.Spec.Selector)
	if p.Namespace == service.Namespace && selector.Matches(labels.Set(p.Labels)) {
		return selector
	}
	return nil
}

func (w *world) one(list ...string) string { return list[w.random.IntN(len(list))] }
func (w *world) often(n int) bool          { return w.random.IntN(n) > 0 }
func (w *world) rarely(n int) bool         { return w.random.IntN(n) == 0 }

var extended = corev1.ResourceName("example.com/gpu")

func (w *world) nodes() (out []*corev1.Node) {
	for i := range 1 + w.random.IntN(9) {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i), Labels: map[string]string{}}}
		if w.often(12) {
			n.Labels[corev1.LabelHostname] = n.Name
		}
		if w.often(6) {
			n.Labels[corev1.LabelTopologyZone] = w.one("z1", "z2", "z3")
		}
		if w.often(2) {
			n.Labels["disk"] = w.one("ssd", "hdd")
		}
		if w.often(3) {
			n.Labels["rank"] = w.one("1", "2", "30", "x")
		}
		n.Status.Allocatable = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(w.one("0", "1", "2", "4", "3900m")), corev1.ResourceMemory: resource.MustParse(w.one("1Gi", "2Gi", "8Gi", "0")),
			corev1.ResourcePods: resource.MustParse(w.one("0", "2", "5", "110", "110", "110")), corev1.ResourceEphemeralStorage: resource.MustParse(w.one("0", "10Gi")),
		}
		if w.rarely(3) {
			n.Status.Allocatable[extended] = resource.MustParse(w.one("0", "1", "2"))
		}
		if w.rarely(5) {
			n.Status.Allocatable["hugepages-2Mi"] = resource.MustParse("64Mi")
		}
		for range w.random.IntN(2) * w.random.IntN(3) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{
				Key: w.one("k", "l"), Value: w.one("", "v"), Effect: corev1.TaintEffect(w.one("NoSchedule", "PreferNoSchedule", "NoExecute", "PreferNoSchedule")),
			})
		}
		n.Spec.Unschedulable = w.rarely(9)
		if w.often(3) {
			n.Status.DeclaredFeatures = []string{"A", "RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport"}[:1+w.random.IntN(3)]
		}
		for k := range w.random.IntN(3) {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{fmt.Sprintf("image%d:latest", k)}, SizeBytes: int64(w.random.IntN(900)) << 20})
		}
		out = append(out, n)
	}
	return out
}

// choose puts the pod somewhere, mostly where it may go.
func (w *world) choose(totals map[string]int64, nodes []*corev1.Node) string {
	if w.rarely(6) {
		return nodes[w.random.IntN(len(nodes))].Name
	}
	for _, n := range nodes {
		if _, ok := totals[n.Name]; ok && w.often(2) {
			return n.Name
		}
	}
	return ""
}

func (w *world) pod(step int) *corev1.Pod {
	name := fmt.Sprint("p", step)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.one("a", "a", "b", "c"), Name: name, UID: types.UID(name)}}
	if w.often(5) {
		p.Labels = map[string]string{"app": w.one("web", "db", "web")}
	}
	if w.rarely(3) && p.Labels != nil {
		p.Labels["version"] = w.one("1", "2")
	}
	p.Spec.SchedulerName = "default-scheduler"
	for range 1 + w.random.IntN(2) {
		p.Spec.Containers = append(p.Spec.Containers, w.container())
	}
	if w.rarely(6) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, w.container())
		if w.rarely(2) {
			always := corev1.ContainerRestartPolicyAlways
			p.Spec.InitContainers[0].RestartPolicy = &always
		}
	}
	if w.rarely(12) {
		p.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(w.one("500m", "2"))}}
		if w.rarely(2) {
			p.Spec.Resources.Requests[corev1.ResourceMemory] = resource.MustParse("512Mi")
		}
	}
	if w.rarely(12) {
		p.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("64Mi")}
	}
	for range w.random.IntN(2) * w.random.IntN(3) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{
			Key: w.one("k", "l", ""), Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffect(w.one("", "NoSchedule", "PreferNoSchedule")),
		})
	}
	if w.rarely(6) {
		p.Spec.NodeSelector = map[string]string{"disk": w.one("ssd", "hdd")}
	}
	if w.rarely(4) {
		w.nodeAffinity(p)
	}
	if w.rarely(3) {
		w.podAffinity(p)
	}
	for range w.random.IntN(2) * w.random.IntN(3) {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, w.constraint())
	}
	return p
}

func (w *world) container() corev1.Container {
	c := corev1.Container{Name: "c", Image: w.one("image0", "image1:latest", "image2", "other")}
	c.Resources.Requests = corev1.ResourceList{}
	if w.often(4) {
		c.Resources.Requests[corev1.ResourceCPU] = resource.MustParse(w.one("0", "1m", "100m", "500m", "1"))
	}
	if w.often(4) {
		c.Resources.Requests[corev1.ResourceMemory] = resource.MustParse(w.one("0", "1", "64Mi", "500M", "1Gi"))
	}
	if w.rarely(6) {
		c.Resources.Requests[corev1.ResourceEphemeralStorage] = resource.MustParse(w.one("1Gi", "20Gi"))
	}
	if w.rarely(7) {
		c.Resources.Requests[extended] = resource.MustParse(w.one("0", "1", "2"))
	}
	if w.rarely(15) {
		c.Resources.Requests["hugepages-2Mi"] = resource.MustParse("32Mi")
	}
	if w.rarely(12) {
		c.RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleAction(w.one("Restart", "RestartAllContainers"))}}
	}
	if w.rarely(6) {
		c.Ports = []corev1.ContainerPort{{HostPort: int32(w.random.IntN(3)), HostIP: w.one("", "0.0.0.0", "10.0.0.1"), Protocol: corev1.Protocol(w.one("TCP", "UDP", ""))}}
	}
	return c
}

func (w *world) nodeAffinity(p *corev1.Pod) {
	a := &corev1.NodeAffinity{}
	w.affinity(p).NodeAffinity = a
	if w.rarely(2) {
		a.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{}
		for range 1 + w.random.IntN(2) {
			a.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms = append(a.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, w.term())
		}
	}
	for range w.random.IntN(3) {
		a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.PreferredSchedulingTerm{Weight: int32(1 + w.random.IntN(100)), Preference: w.term()})
	}
}

func (w *world) affinity(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	return p.Spec.Affinity
}

func (w *world) term() (t corev1.NodeSelectorTerm) {
	if w.rarely(5) {
		t.MatchFields = []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{w.one("n0", "n1", "n2")}}}
		if w.rarely(2) {
			return t
		}
	}
	r := corev1.NodeSelectorRequirement{Key: w.one("disk", "rank", corev1.LabelTopologyZone, "none")}
	switch r.Operator = corev1.NodeSelectorOperator(w.one("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")); r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		r.Values = []string{w.one("ssd", "1", "z1"), w.one("hdd", "2", "z2")}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		r.Values = []string{w.one("1", "15")}
	}
	t.MatchExpressions = append(t.MatchExpressions, r)
	return t
}

func (w *world) selector() *metav1.LabelSelector {
	switch w.random.IntN(8) {
	case 0:
		return nil
	case 1:
		return &metav1.LabelSelector{}
	case 2:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpExists}}}
	case 3:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "version", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"1"}}}}
	default:
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": w.one("web", "db")}}
	}
}

func (w *world) podTerm() corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: w.one(corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyZone, "disk"), LabelSelector: w.selector()}
	switch w.random.IntN(6) {
	case 0:
		t.Namespaces = []string{w.one("a", "b")}
	case 1:
		t.NamespaceSelector = &metav1.LabelSelector{}
	case 2:
		t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": w.one("red", "blue")}}
	}
	return t
}

func (w *world) podAffinity(p *corev1.Pod) {
	required := func() (out []corev1.PodAffinityTerm) {
		for range w.random.IntN(2) {
			out = append(out, w.podTerm())
		}
		return out
	}
	preferred := func() (out []corev1.WeightedPodAffinityTerm) {
		for range w.random.IntN(3) {
			out = append(out, corev1.WeightedPodAffinityTerm{Weight: int32(1 + w.random.IntN(100)), PodAffinityTerm: w.podTerm()})
		}
		return out
	}
	a := w.affinity(p)
	if w.rarely(2) {
		a.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required(), PreferredDuringSchedulingIgnoredDuringExecution: preferred()}
	}
	if w.rarely(2) {
		a.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required(), PreferredDuringSchedulingIgnoredDuringExecution: preferred()}
	}
}

func (w *world) constraint() corev1.TopologySpreadConstraint {
	c := corev1.TopologySpreadConstraint{
		MaxSkew: int32(1 + w.random.IntN(3)), TopologyKey: w.one(corev1.LabelHostname, corev1.LabelTopologyZone, "disk"),
		WhenUnsatisfiable: corev1.UnsatisfiableConstraintAction(w.one("DoNotSchedule", "ScheduleAnyway")), LabelSelector: w.selector(),
	}
	if w.rarely(4) && c.WhenUnsatisfiable == corev1.DoNotSchedule {
		n := int32(1 + w.random.IntN(4))
		c.MinDomains = &n
	}
	policy := func() *corev1.NodeInclusionPolicy {
		if w.often(3) {
			return nil
		}
		p := corev1.NodeInclusionPolicy(w.one("Honor", "Ignore"))
		return &p
	}
	c.NodeAffinityPolicy, c.NodeTaintsPolicy = policy(), policy()
	if w.rarely(4) {
		c.MatchLabelKeys = []string{w.one("version", "app")}
	}
	return c
}
