package daemonset

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"hardway/controllers/podstate"
	"hardway/controllers/workload/podset"
)

// always are taints that every daemon's pod tolerates: a node in trouble needs its daemons most.
var always = []corev1.Toleration{
	{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeDiskPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodePIDPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
}

// tolerations are the template's and those that every daemon's pod has.
func tolerations(spec *corev1.PodSpec) []corev1.Toleration {
	out := slices.Clone(spec.Tolerations)
	add := always
	if spec.HostNetwork {
		add = append(slices.Clone(always), corev1.Toleration{Key: corev1.TaintNodeNetworkUnavailable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	for _, t := range add {
		has := slices.ContainsFunc(out, func(o corev1.Toleration) bool {
			return o.Key == t.Key && o.Effect == t.Effect && o.Operator == t.Operator && o.Value == t.Value
		})
		if !has {
			out = append(out, t)
		}
	}
	return out
}

// chooser says on which nodes the pods of a DaemonSet belong.
type chooser struct {
	node        string // spec.nodeName of the template
	tolerations []corev1.Toleration
	matches     func(*corev1.Node) bool
}

func newChooser(ds *appsv1.DaemonSet) (chooser, error) {
	spec := &ds.Spec.Template.Spec
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: spec.NodeSelector, Affinity: spec.Affinity}}
	affinity := nodeaffinity.GetRequiredNodeAffinity(pod)
	if _, err := affinity.Match(&corev1.Node{}); err != nil {
		return chooser{}, fmt.Errorf("node affinity of DaemonSet %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	return chooser{
		node: spec.NodeName, tolerations: tolerations(spec),
		matches: func(n *corev1.Node) bool { ok, err := affinity.Match(n); return ok && err == nil },
	}, nil
}

// belongs says whether a new pod may go to the node, and whether one that is there may stay: taints that only keep new
// pods off do not drive out what runs.
func (c chooser) belongs(n *corev1.Node) (run, stay bool) {
	if c.node != "" && c.node != n.Name || !c.matches(n) {
		return false, false
	}
	run, stay = true, true
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || slices.ContainsFunc(c.tolerations, func(tol corev1.Toleration) bool { return podstate.Tolerates(&tol, t) }) {
			continue
		}
		run = false
		if t.Effect == corev1.TaintEffectNoExecute {
			stay = false
		}
	}
	return run, stay
}

// newPod makes the pod for a node. The scheduler binds it, so that it counts like any other, but has no choice.
func newPod(ds *appsv1.DaemonSet, hash, node string) *corev1.Pod {
	pod := podset.FromTemplate(ds, kind, &ds.Spec.Template, ds.Name+"-")
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[appsv1.ControllerRevisionHashLabelKey] = hash
	pod.Spec.Tolerations = tolerations(&pod.Spec)
	pin(&pod.Spec, node)
	return pod
}

// pin binds the pod to the node by affinity; what else its terms ask for was asked of the node already.
func pin(spec *corev1.PodSpec, node string) {
	field := []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: field}},
	}
}

// nodeOf is the node that a pod is bound or pinned to, "" when there is none.
func nodeOf(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, f := range term.MatchFields {
				if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
					return f.Values[0]
				}
			}
		}
	}
	return ""
}
