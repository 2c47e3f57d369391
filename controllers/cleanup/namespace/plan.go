package namespace

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/controllers/cleanup/resources"
)

// pods go before everything else: what they use (their ConfigMaps, their network policies) must not vanish under them.
var podResource = schema.GroupResource{Resource: "pods"}

// deletable returns the resources whose objects have to be deleted: pods alone, and all others.
func deletable(set resources.Set) (pods, others []resources.Resource) {
	for _, r := range set.All {
		switch {
		case !r.Namespaced || !r.Can("delete", "list"):
		case r.GroupResource() == podResource:
			pods = append(pods, r)
		default:
			others = append(others, r)
		}
	}
	return pods, others
}

// remains is what is left of a resource after a pass.
type remains struct {
	resource   schema.GroupResource
	count      int
	finalizers map[string]int // objects by finalizer that holds them
	err        error
}

// tally is what is left of the namespace after a pass.
type tally struct {
	missing []schema.GroupVersion // resources unknown: their server does not answer
	asking  error                 // discovery itself failed
	left    []remains
}

// empty reports whether nothing is left, and that is certain.
func (t tally) empty() bool {
	return t.asking == nil && len(t.missing) == 0 && !t.holds()
}

// holds reports whether something is left, or may be.
func (t tally) holds() bool {
	return slices.ContainsFunc(t.left, func(r remains) bool { return r.count > 0 || r.err != nil })
}

// conditions says what the pass found, in upstream's words.
func (t tally) conditions() []corev1.NamespaceCondition {
	discovery := condition(corev1.NamespaceDeletionDiscoveryFailure, "", "ResourcesDiscovered", "All resources successfully discovered")
	if t.asking != nil {
		discovery = condition(corev1.NamespaceDeletionDiscoveryFailure, t.asking.Error(), "DiscoveryFailed", "")
	} else if len(t.missing) > 0 {
		var names []string
		for _, gv := range t.missing {
			names = append(names, gv.String())
		}
		problem := fmt.Sprintf("Discovery failed for some groups, %d failing: unable to retrieve the complete list of server APIs: %s",
			len(names), strings.Join(names, ", "))
		discovery = condition(corev1.NamespaceDeletionDiscoveryFailure, problem, "DiscoveryFailed", "")
	}
	var failed, left, held []string
	byFinalizer := map[string]int{}
	for _, r := range t.left {
		if r.err != nil {
			failed = append(failed, r.err.Error())
		}
		if r.count > 0 {
			left = append(left, fmt.Sprintf("%s.%s has %d resource instances", r.resource.Resource, r.resource.Group, r.count))
		}
		for finalizer, n := range r.finalizers {
			byFinalizer[finalizer] += n
		}
	}
	for finalizer, n := range byFinalizer {
		held = append(held, fmt.Sprintf("%s in %d resource instances", finalizer, n))
	}
	return []corev1.NamespaceCondition{
		discovery,
		condition(corev1.NamespaceDeletionGVParsingFailure, "", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
		listed(corev1.NamespaceDeletionContentFailure, failed,
			fmt.Sprintf("Failed to delete all resource types, %d remaining: ", len(failed)), "ContentDeletionFailed",
			"ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
		listed(corev1.NamespaceContentRemaining, left, "Some resources are remaining: ", "SomeResourcesRemain",
			"ContentRemoved", "All content successfully removed"),
		listed(corev1.NamespaceFinalizersRemaining, held, "Some content in the namespace has finalizers remaining: ", "SomeFinalizersRemain",
			"ContentHasNoFinalizers", "All content-preserving finalizers finished"),
	}
}

// condition is True with the problem as its message, or False with the other one.
func condition(kind corev1.NamespaceConditionType, problem, reason, fine string) corev1.NamespaceCondition {
	if problem != "" {
		return corev1.NamespaceCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: problem}
	}
	return corev1.NamespaceCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: fine}
}

func listed(kind corev1.NamespaceConditionType, problems []string, intro, bad, good, fine string) corev1.NamespaceCondition {
	if len(problems) == 0 {
		return condition(kind, "", good, fine)
	}
	slices.Sort(problems)
	return condition(kind, intro+strings.Join(problems, ", "), bad, "")
}

// withConditions returns the status with the conditions of a pass, and whether it changed. Times of transition follow
// the status of a condition.
func withConditions(status corev1.NamespaceStatus, found []corev1.NamespaceCondition, now time.Time) (corev1.NamespaceStatus, bool) {
	out := *status.DeepCopy()
	changed := out.Phase != corev1.NamespaceTerminating
	out.Phase = corev1.NamespaceTerminating
	for _, c := range found {
		c.LastTransitionTime = metav1.NewTime(now)
		at := slices.IndexFunc(out.Conditions, func(o corev1.NamespaceCondition) bool { return o.Type == c.Type })
		switch {
		case at < 0:
			out.Conditions = append(out.Conditions, c)
			changed = true
		case out.Conditions[at].Status != c.Status || out.Conditions[at].Reason != c.Reason || out.Conditions[at].Message != c.Message:
			if out.Conditions[at].Status == c.Status {
				c.LastTransitionTime = out.Conditions[at].LastTransitionTime
			}
			out.Conditions[at] = c
			changed = true
		}
	}
	return out, changed
}

// pause is how long to wait before the next pass when nothing tells that one is due: short at first, for what merely
// takes a moment, then longer for what a finalizer holds.
func pause(pass int) time.Duration {
	return min(100*time.Millisecond<<min(pass, 8), 15*time.Second)
}
