package lifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// facts are what is known of one node.
type facts struct {
	node    *corev1.Node
	silence time.Duration // since the node's last sign of life arrived here, by the local monotonic clock
	grace   time.Duration // silence after which a node counts as lost
	startup time.Duration // the same for a node that never reported
	now     time.Time     // for the times in conditions and taints
}

// plan is what the node should look like.
type plan struct {
	lost       bool                   // nothing was heard for longer than the grace period
	conditions []corev1.NodeCondition // conditions that have to change; nil when none
	taints     []corev1.Taint         // all taints of the node after the change, without regard to the limit on evictions
	evict      bool                   // the taints contain one of ours with NoExecute that the node lacks
	again      time.Duration          // look again after this time; 0 = never by itself
}

// watched are the conditions that the node agent reports and that become Unknown when it falls silent.
var watched = []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

// makePlan judges the node by its silence, never by comparing wall clocks of two machines.
func makePlan(f facts) plan {
	grace := f.grace
	if condition(f.node.Status.Conditions, corev1.NodeReady) == nil {
		grace = f.startup
	}
	p := plan{lost: f.silence > grace}
	conditions := f.node.Status.Conditions
	if p.lost {
		p.conditions = lostConditions(f.node, f.now)
		conditions = merged(conditions, p.conditions)
	} else {
		p.again = max(grace-f.silence, 0) + time.Millisecond
	}
	p.taints, p.evict = makeTaints(f.node, conditions, f.now)
	return p
}

// lostConditions are the conditions to write for a node that fell silent.
func lostConditions(node *corev1.Node, now time.Time) []corev1.NodeCondition {
	var out []corev1.NodeCondition
	for _, kind := range watched {
		c := condition(node.Status.Conditions, kind)
		switch {
		case c == nil:
			out = append(out, corev1.NodeCondition{
				Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: metav1.NewTime(now),
			})
		case c.Status != corev1.ConditionUnknown:
			out = append(out, corev1.NodeCondition{
				Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", Message: "Kubelet stopped posting node status.",
				LastHeartbeatTime: c.LastHeartbeatTime, LastTransitionTime: metav1.NewTime(now),
			})
		}
	}
	return out
}

// merged returns the conditions with those of changes in place of the old ones.
func merged(conditions, changes []corev1.NodeCondition) []corev1.NodeCondition {
	out := slices.Clone(conditions)
	for _, c := range changes {
		if old := condition(out, c.Type); old != nil {
			*old = c
		} else {
			out = append(out, c)
		}
	}
	return out
}

// pressure says which taint follows from a condition that is True.
var pressure = map[corev1.NodeConditionType]string{
	corev1.NodeMemoryPressure:     corev1.TaintNodeMemoryPressure,
	corev1.NodeDiskPressure:       corev1.TaintNodeDiskPressure,
	corev1.NodePIDPressure:        corev1.TaintNodePIDPressure,
	corev1.NodeNetworkUnavailable: corev1.TaintNodeNetworkUnavailable,
}

// ours reports whether this controller alone decides about a taint.
func ours(t corev1.Taint) bool {
	switch t.Key {
	case corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable:
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	case corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure,
		corev1.TaintNodeNetworkUnavailable, corev1.TaintNodeUnschedulable:
		return t.Effect == corev1.TaintEffectNoSchedule
	default:
		return false
	}
}

// makeTaints returns the node's taints as they follow from its conditions; those of others stay where they are. evict
// is true when a NoExecute taint is new.
func makeTaints(node *corev1.Node, conditions []corev1.NodeCondition, now time.Time) (out []corev1.Taint, evict bool) {
	want := wantedTaints(node, conditions)
	for _, t := range node.Spec.Taints {
		if !ours(t) {
			out = append(out, t)
			continue
		}
		if at := slices.IndexFunc(want, func(w corev1.Taint) bool { return w.Key == t.Key && w.Effect == t.Effect }); at >= 0 {
			out = append(out, t)
			want = slices.Delete(want, at, at+1)
		}
	}
	for _, t := range want {
		if t.Effect == corev1.TaintEffectNoExecute {
			evict = true
		}
		t.TimeAdded = &metav1.Time{Time: now}
		out = append(out, t)
	}
	return out, evict
}

func wantedTaints(node *corev1.Node, conditions []corev1.NodeCondition) []corev1.Taint {
	var want []corev1.Taint
	add := func(key string, effects ...corev1.TaintEffect) {
		for _, e := range effects {
			want = append(want, corev1.Taint{Key: key, Effect: e})
		}
	}
	if ready := condition(conditions, corev1.NodeReady); ready != nil {
		switch ready.Status {
		case corev1.ConditionFalse:
			add(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
		case corev1.ConditionUnknown:
			add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
		}
	} else if slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady }) {
		add(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule) // registered, nothing reported yet: not ready until it says so
	}
	for _, c := range conditions {
		if key, ok := pressure[c.Type]; ok && c.Status == corev1.ConditionTrue {
			add(key, corev1.TaintEffectNoSchedule)
		}
	}
	if node.Spec.Unschedulable {
		add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	}
	return want
}

// withoutNew drops those NoExecute taints of a plan that the node does not have yet: the limit on evictions holds them
// back.
func withoutNew(taints []corev1.Taint, node *corev1.Node) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(taints), func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute && ours(t) && !slices.ContainsFunc(node.Spec.Taints, func(o corev1.Taint) bool {
			return o.Key == t.Key && o.Effect == t.Effect
		})
	})
}

// withoutEviction drops all NoExecute taints of ours.
func withoutEviction(taints []corev1.Taint) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(taints), func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute && ours(t) })
}

// sameTaints compares keys, values and effects; the time when a taint was added does not matter.
func sameTaints(a, b []corev1.Taint) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.Taint) bool { return x.Key == y.Key && x.Effect == y.Effect && x.Value == y.Value })
}

// condition returns the condition of a type, or nil. The pointer leads into the slice.
func condition(conditions []corev1.NodeCondition, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range conditions {
		if conditions[i].Type == kind {
			return &conditions[i]
		}
	}
	return nil
}
